"""Case softmax: time and peak memory of full softmax over many items, forward and backward."""

from pathlib import Path
from typing import Any

from train_bench.options import Options
from train_bench.processes import Contestant, Entry
from train_bench.result import Goal, Result, median

NAME = "softmax"
WIDTH, ITEMS = 64, 100_000
TOKENS = (6_400, 25_600)
WANTED_SHARE = 1 / 8
_COPIES = 4  # logits, log-probabilities and gradient of the naive way, and room to breathe
_VARIANTS = {
    "retrank": "`FullSoftmax`, chunks of 512",
    "torch_chunked": "`linear_cross_entropy`, chunked",
    "naive": "matrix product and `cross_entropy`",
}


def run(options: Options) -> Result:
    """Measure each way in fresh processes, in turns; the naive one only where its logits fit the memory."""
    items, sizes = (200, (64,)) if options.tiny else (ITEMS, TOKENS)
    measured: dict[int, dict[str, dict[str, Any]]] = {tokens: {} for tokens in sizes}
    for tokens in sizes:
        for variant in _VARIANTS:
            if variant == "naive" and _COPIES * 4 * tokens * items > _free_bytes():
                continue
            measured[tokens][variant] = _measure(variant, tokens, items, options)
    rows = [_row(tokens, variant, found) for tokens, ways in measured.items() for variant, found in ways.items()]
    both = max(tokens for tokens, ways in measured.items() if "naive" in ways)
    share = measured[both]["retrank"]["bytes"] / max(measured[both]["naive"]["bytes"], 1)
    goals = [
        Goal(f"memory at {both:,} tokens at most 1/8 of naive", f"1/{1 / max(share, 1e-9):.1f}", share <= WANTED_SHARE)
    ]
    about = [
        f"Mean cross-entropy of T queries of width {WIDTH} against {items:,} items and its gradients, fp32, "
        f"{options.threads} threads, each in fresh processes; median seconds of one forward and backward. Memory is "
        "the growth of the peak (`ru_maxrss`) over the loaded inputs, gradients included.",
    ]
    largest = max(sizes)
    if both != largest:
        ours, per_token = measured[largest]["retrank"]["bytes"], measured[both]["naive"]["bytes"] / both
        about.append(
            f"The naive way was not run at {largest:,} tokens: its logits alone are {4 * largest * items / 1e9:.0f} "
            f"GB. Its memory grows in proportion to the tokens: from the {both:,} that were measured it would take "
            f"{per_token * largest / 1e9:.0f} GB (computed), {per_token * largest / ours:.0f} times retrank's."
        )
    columns = ["tokens", "way", "seconds", "peak memory, MB", "loss"]
    return Result(NAME, "Full softmax over 100,000 items", about, columns, rows, goals, {"sizes": measured})


def _measure(variant: str, tokens: int, items: int, options: Options) -> dict[str, Any]:
    arguments = (variant, *map(str, (tokens, items, WIDTH, 1 if options.tiny else 2, options.threads)))
    found: dict[str, Any] = {"seconds": [], "bytes": 0}
    folder = options.scratch / NAME
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(1 if options.tiny else 2):
        with Contestant(Entry(variant, "softmax_once.py", arguments), folder, options.threads) as contestant:
            heard = contestant.hear()
        found["seconds"] += heard["seconds"]
        found |= {"bytes": max(found["bytes"], heard["bytes"]), "loss": heard["loss"]}
    return found


def _row(tokens: int, variant: str, found: dict[str, Any]) -> list[str]:
    cells = [f"{median(found['seconds']):.2f}", f"{found['bytes'] / 1e6:,.0f}", f"{found['loss']:.6f}"]
    return [f"{tokens:,}", f"{variant}: {_VARIANTS[variant]}", *cells]


def _free_bytes() -> int:
    """Memory the system can give without swapping; unlimited where it does not say."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        return 2**63
    fields = dict(line.split(":") for line in info.read_text().splitlines())
    return 1024 * int(fields["MemAvailable"].split()[0])
