"""How fast does retrank train and evaluate, beside other libraries on the same arrays?

    python scripts/bench_train.py --install-peers .peers       # once: a virtual environment for each other library
    python scripts/bench_train.py                              # all cases, report in docs/benchmarks/training.md
    python scripts/bench_train.py --case seq_small --peers rectools,replay --rounds 3

Without `--sequences` the data are made up, with ml-1m's length law, so that anyone can run it. Peers that are not
installed are left out. Cases are listed in `train_bench/registry.py`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from train_bench import peers, report
from train_bench.options import Options
from train_bench.registry import CASES


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=list(CASES), help="default: all")
    parser.add_argument("--peers", default=",".join(peers.PEERS), help="names by comma; none = retrank alone")
    parser.add_argument("--peers-dir", type=Path, default=Path(".peers"))
    parser.add_argument("--install-peers", type=Path, metavar="DIR", help="install the peers there and stop")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds; one more is not counted")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sequences", type=Path, help="train on this file, 'user item' per line")
    parser.add_argument("--users", type=int, default=6_040, help="users of the made-up world")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/training.md"))
    parser.add_argument("--provisional", action="store_true", help="say in the report that the machine was busy")
    parser.add_argument("--tiny", action="store_true", help="seconds per case, to see that it works")
    parser.add_argument("--scratch", type=Path, help="folder for arrays and logs; default: a temporary one")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    arguments = parse(words)
    wanted = tuple(name for name in arguments.peers.split(",") if name in peers.PEERS)
    if arguments.install_peers:
        peers.install(arguments.install_peers, wanted)
        return
    with tempfile.TemporaryDirectory() as temporary:
        options = Options(
            wanted, arguments.peers_dir, arguments.rounds, arguments.threads,
            arguments.sequences and arguments.sequences.absolute(), arguments.users,
            (arguments.scratch or Path(temporary)).absolute(), arguments.tiny,
        )  # fmt: skip
        for name in arguments.case or CASES:
            measure(name, options, arguments)


def measure(name: str, options: Options, arguments: argparse.Namespace) -> None:
    """Run a case, keep what it found, and write the report anew."""
    facts = {
        "machine": report.machine(),
        "versions": peers.versions(options.peers_dir, options.installed(peers.PEERS)),
        "command": command(name, arguments),
        "provisional": arguments.provisional,
    }
    print(f"{name} ...", file=sys.stderr, flush=True)
    kept = arguments.out.with_suffix(".json")
    report.keep(CASES[name](options), kept, facts)
    text = report.render(report.load(kept), kept.name)
    arguments.out.write_text(text)


def command(name: str, arguments: argparse.Namespace) -> str:
    """The command that repeats a case, without folders of this machine."""
    words = ["python scripts/bench_train.py", f"--case {name}", f"--rounds {arguments.rounds}"]
    words += [f"--threads {arguments.threads}"] if arguments.threads != 2 else []
    if arguments.sequences:
        words.append(f"--sequences {arguments.sequences.name}")
    elif arguments.users != 6_040:
        words.append(f"--users {arguments.users}")
    return " ".join(words + ["--tiny"] * arguments.tiny)


if __name__ == "__main__":
    main()
