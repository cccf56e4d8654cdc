"""Case evaluation: ranking the whole catalogue for many users, top 100, seen removed."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from train_bench.options import Options
from train_bench.processes import Contestant, Entry, take_turns
from train_bench.result import Goal, Result, at_least, median, spread

NAME = "evaluation"
WIDTH, SEEN = 64, 100
SIZES = {"6k users x 3.4k items": (6_040, 3_416, 6_040), "100k users x 100k items": (100_000, 100_000, 2_048)}
TINY = {"tiny": (40, 150, 40)}
WANTED = 2.0


def run(options: Options) -> Result:
    """Rank in turns; of the large size, a part of the users, for all the same."""
    rows, goals, measured = [], [], {}
    for name, (users, num_items, measured_users) in (TINY if options.tiny else SIZES).items():
        folder = options.scratch / NAME / str(users)
        prepare(folder, measured_users, num_items, options)
        said = _take_part(options, folder)
        seconds = {contestant: [answer["seconds"] for answer in found[1:]] for contestant, found in said.items()}
        for contestant, taken in seconds.items():
            rate = measured_users / median(taken)
            faster = median(taken) / median(seconds["retrank"])
            hits = said[contestant][-1]["hr"]
            cells = [spread(taken, 2), f"{rate:,.0f}", f"{users / rate:,.1f}", f"{faster:.2f}x", f"{hits:.4f}"]
            rows.append([name, contestant, *cells])
            if contestant != "retrank":
                goals.append(at_least(f">= {WANTED:g}x {contestant}, {name}", faster, WANTED))
        hits = {found[-1]["hr"] for found in said.values()}
        goals.append(
            Goal(f"the same hit rate, {name}", f"within {max(hits) - min(hits):.1e}", max(hits) - min(hits) < 1e-3)
        )
        measured[name] = {"users": measured_users, "items": num_items, "seconds": seconds}
    about = [
        f"Given vectors of width {WIDTH}, {SEEN} seen items per user on average, one target each; exact scores of "
        "all items, seen ones removed, the best 100. retrank computes the ranks of the targets and all metrics of a "
        "report, for which it needs the members of each list and not their order; RecTools its lists and a hit "
        "rate, RePlay recall, NDCG, MAP and MRR (its loop over logits, with "
        "the matrix product in place of a model). Of the large size a part of the users is ranked, the same for "
        "all, since the work is the same for each user; the time for all users is computed from it.",
    ]
    columns = ["size", "contestant", "seconds", "users/s", "s for all users", "retrank is faster by", "HR@100"]
    return Result(NAME, "Evaluation over the whole catalogue", about, columns, rows, goals, measured)


def entries(options: Options) -> list[Entry]:
    """Who takes part."""
    found = [Entry("retrank", "rank_retrank.py")]
    for peer in options.installed(("rectools", "replay")):
        kinds = ("torch", "implicit") if peer == "rectools" else ("",)
        for kind in kinds:
            name, arguments = (f"{peer}_{kind}", (kind,)) if kind else (peer, ())
            found.append(Entry(name, f"rank_{peer}.py", arguments, options.python_of(peer)))
    return found


def prepare(folder: Path, users: int, num_items: int, options: Options) -> None:
    """Write vectors, seen items and one unseen target for each user."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    arrays: dict[str, Any] = {
        "queries": random.standard_normal((users, WIDTH), dtype=np.float32),
        "items": random.standard_normal((num_items + 1, WIDTH), dtype=np.float32),
    }
    size = min(SEEN, num_items // 4)
    drawn = np.sort(random.integers(1, num_items + 1, (users, size + 1)), axis=1)
    fresh = np.c_[np.ones(users, dtype=bool), np.diff(drawn) > 0]
    target = np.argmax(np.where(fresh, random.random(drawn.shape), -1), axis=1)
    arrays["targets"] = drawn[np.arange(users), target].astype(np.int32)
    fresh[np.arange(users), target] = False
    arrays["seen_items"] = drawn[fresh].astype(np.int32)
    arrays["seen_offsets"] = np.r_[0, np.cumsum(fresh.sum(1))].astype(np.int64)
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    settings = {"threads": options.threads, "rounds": options.rounds + 1}
    (folder / "settings.json").write_text(json.dumps(settings))


def _take_part(options: Options, folder: Path) -> dict[str, list[dict[str, Any]]]:
    with ExitStack() as stack:
        running = [stack.enter_context(Contestant(entry, folder, options.threads)) for entry in entries(options)]
        said = take_turns(running, options.rounds + 1)
        for contestant in running:
            contestant.tell("finish")
    return said
