"""What negatives and their correction are worth: one model, one recipe, several losses, several seeds.

    python scripts/ablate_negatives.py --root . --seeds 1 2 3
    python scripts/ablate_negatives.py --root . --experiment ml1m_sasrec --sequences ml-1m.txt --seeds 1 \
        --with model.width=32 trainer.max_epochs=6

The experiment's store must lie below the root (`retrank ingest`); `--sequences` ingests a sequence file first. Weights
are chosen on validation. A result is kept below `<root>/ablations` and not computed again, so seeds can run side by
side and a last call prints the table.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from retrank.config import compose, resolve
from retrank.data.ingest import ingest
from retrank.data.readers.sequences import SequenceFile
from retrank.training import fit

LOSSES = {
    "in batch, uncorrected": ("loss=in_batch_softmax", "loss.correct=false"),
    "in batch, logQ of 2019": ("loss=in_batch_softmax", "loss.refined=false"),
    "in batch, logQ refined": ("loss=in_batch_softmax",),
    "in batch, logQ refined, symmetric": ("loss=in_batch_softmax", "loss.symmetric=true"),
    "uniform": ("loss=sampled_softmax",),
    "mixed, logQ refined": ("loss=mixed_softmax",),
    "full softmax": ("loss=full_softmax",),
    "gBCE": ("loss=gbce",),
    "BPR": ("loss=bpr",),
}
FIGURES = ("ndcg@10", "hr@10", "recall@100", "coverage@10", "popularity_lift@10")


def main() -> None:
    args = arguments()
    settings = [f"experiment={args.experiment}", f"paths.root={args.root}", "trainer.progress=false"]
    if args.sequences:
        store = args.root / "stores" / "ablation_sequences"
        ingest(SequenceFile(str(args.sequences), name="sequences"), store)
        settings.append(f"store={store}")
    for seed in args.seeds:
        for name in args.losses:
            result(args.root / "ablations" / args.experiment, name, seed, [*settings, *args.settings])
    print(table(args.root / "ablations" / args.experiment, args.losses))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of stores and results")
    parser.add_argument("--experiment", default="online_retail_two_tower")
    parser.add_argument("--sequences", type=Path, help="sequence file to ingest for an experiment without times")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--with", dest="settings", nargs="*", default=[], help="further settings, for all losses")
    return parser.parse_args()


def result(folder: Path, name: str, seed: int, settings: list[str]) -> dict[str, Any]:
    """Return the figures of one training; train if they are not there yet."""
    kept = folder / f"{name.replace(' ', '_').replace(',', '')}-{seed}.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    temperature = resolve(compose("train", settings))["loss"]["temperature"]
    run_dir = folder / kept.stem
    loss = [*LOSSES[name], f"loss.temperature={temperature}"]
    fixed = [f"seed={seed}", f"run_dir={run_dir}", "baselines=false"]
    fit.run(resolve(compose("train", [*settings, *loss, *fixed])))
    metrics = json.loads((run_dir / "metrics.json").read_text())
    card = json.loads((run_dir / "run_card.json").read_text())
    found = {"loss": name, "seed": seed, "settings": settings, "cpu_s": card["training"]["cpu_s"]} | {
        window: {figure: metrics[window][figure] for figure in FIGURES} for window in ("validation", "test")
    }
    kept.write_text(json.dumps(found, indent=2) + "\n")
    return found


def table(folder: Path, losses: list[str]) -> str:
    """Lay out mean and standard error over the seeds that are there."""
    lines = ["| negatives | seeds | validation NDCG@10 | test " + " | test ".join(FIGURES) + " |", "|---" * 8 + "|"]
    for name in losses:
        paths = sorted(folder.glob(f"{name.replace(' ', '_').replace(',', '')}-*.json"))
        found = [json.loads(path.read_text()) for path in paths]
        if found:
            cells = [summary([one["validation"]["ndcg@10"] for one in found])]
            cells += [summary([one["test"][figure] for one in found]) for figure in FIGURES]
            lines.append(f"| {name} | {len(found)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(values: list[float]) -> str:
    """Mean, and standard error where there are several seeds."""
    spread = f" ± {np.std(values, ddof=1) / len(values) ** 0.5:.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


if __name__ == "__main__":
    main()
