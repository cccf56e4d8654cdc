"""Let atheris look for requests that reach code no request reached before, and judge every answer.

    python scripts/fuzz_guided.py --bundle bundles/fuzz --count 50000 --found found.json
    python scripts/fuzz_guided.py --bundle bundles/fuzz --again 300a474554...     # one input, shown and sent alone

An input is one request as text: digits for strange headers, then `METHOD target`, then the body, each of the first two
ended by a line feed. libFuzzer changes the bytes and keeps what covers something new in retrank; it begins with
requests of our own generator. `fuzz_requests.py` runs this as one of its engines. Needs the extra `fuzz`.
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["retrank"]):
    import fuzz_requests
    from stress.application import application
    from stress.fuzz_cases import HEADERS, JSON, Case, draw
    from stress.judged import Judge, in_process

_SEEDS, _LONGEST = 400, 8_192
_SAY_EVERY = 500
_MOST_TARGET = 600


def as_case(data: bytes) -> Case:
    """Return the request that some bytes stand for; every bytes stand for one."""
    first, _, rest = data.partition(b"\n")
    line, _, body = rest.partition(b"\n")
    method, _, target = line.decode("utf-8", "replace").partition(" ")
    number = int(first) if first.isdigit() and len(first) < 4 else 0
    headers = [JSON] if number == 0 else [JSON, HEADERS[number % len(HEADERS)]]
    return Case(method[:20], "/" + target[1:_MOST_TARGET], headers, [body])


def as_bytes(case: Case, number: int = 0) -> bytes:
    """Return bytes that stand for a request, but for its headers."""
    return b"%d\n%s %s\n%s" % (
        number,
        case.method.encode(),
        case.target.encode("utf-8", "replace"),
        b"".join(case.chunks),
    )


def write(judge: Judge, path: Path) -> None:
    """Say what was found so far."""
    found = judge.found
    said = {"statuses": found.statuses, "faults": found.faults, "slowest_s": found.slowest_s, "seconds": found.seconds}
    path.write_text(json.dumps(said))


def run(judge: Judge, asked: argparse.Namespace, seeds: Path) -> None:
    """Hand over to libFuzzer, which ends the process when it is done."""

    def one(data: bytes) -> None:
        judge.send(as_case(data), data[:2_000].hex())
        if judge.found.sent % _SAY_EVERY == 0 or judge.found.sent >= asked.count or judge.is_over:
            write(judge, asked.found)

    options = [f"-runs={asked.count}", f"-seed={asked.seed}", f"-max_len={_LONGEST}", "-timeout=0", "-rss_limit_mb=0"]
    atheris.Setup([sys.argv[0], *options, "-verbosity=0", str(seeds)], one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--within", type=float, default=5.0, help="seconds one request may take")
    parser.add_argument("--most-s", type=float, default=7_200.0)
    parser.add_argument("--found", type=Path, help="JSON file to write")
    parser.add_argument("--again", help="send just this input, in hexadecimal digits as a report names it")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="guided-") as name:
        folder = Path(name)
        with (
            application(fuzz_requests.patient(asked.bundle, folder)) as (app, _),
            in_process(app, asked.within) as target,
        ):
            judge: Any = Judge(target, most_s=asked.most_s)
            if asked.again is not None:
                case = as_case(bytes.fromhex(asked.again))
                print(case)
                judge.send(case, "again")
                print(judge.found)
                return
            seeds, world = folder / "seeds", fuzz_requests.world_of(asked.bundle)
            seeds.mkdir()
            for number in range(_SEEDS):
                content = as_bytes(draw(world, random.Random(f"{asked.seed}/seed/{number}")), number % 40)
                (seeds / f"{number:04d}").write_bytes(content[:_LONGEST])
            run(judge, asked, seeds)


if __name__ == "__main__":
    main()
