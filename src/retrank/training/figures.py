"""The plots of a report, as inline SVG with real text. Built on `Figure` alone: no global plotting state."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from retrank.metrics.case_ranks import KS, CaseRanks
from retrank.metrics.slices import POPULARITY_LABELS, Slice, popularity_groups

ACCENT, MUTED, GRID, INK = "#2456d6", "#9aa4b5", "#e3e7ee", "#222b38"
PALETTE = ("#c7772e", "#3f8f6b", "#8a5bb5", "#b94a5c", "#6b7686")
STYLE: Any = {  # matplotlib types the keys as a list of all settings
    "svg.fonttype": "none",
    "svg.hashsalt": "retrank",
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Segoe UI", "Helvetica Neue", "Arial", "DejaVu Sans"],
    "font.size": 10,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


def scoreboard(values: Mapping[str, NDArray[np.float64]], highlight: str, metric: str) -> str:
    """Horizontal bars of a metric with the 95 % interval of each mean, best on top; `values` are per case."""
    names = sorted(values, key=lambda name: values[name].mean())
    means = [values[name].mean() for name in names]
    errors = [1.96 * values[name].std() / np.sqrt(len(values[name])) for name in names]
    colours = [ACCENT if name == highlight else MUTED for name in names]
    with mpl.rc_context(STYLE):
        figure, axes = canvas(height=0.9 + 0.42 * len(names))
        axes.barh(names, means, xerr=errors, color=colours, height=0.62, error_kw={"ecolor": INK, "lw": 1})
        for row, (mean, error) in enumerate(zip(means, errors, strict=True)):
            axes.text(mean + error, row, f"  {mean:.4f}", va="center")
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, max(m + e for m, e in zip(means, errors, strict=True)) * 1.22 or 1)
        axes.set_xlabel(f"{metric.upper()}, higher is better")
        return as_svg(figure)


def hit_rate_curves(ranks: Mapping[str, CaseRanks], highlight: str) -> str:
    """HR at every k up to the largest list, on a logarithmic axis."""
    with mpl.rc_context(STYLE):
        figure, axes = canvas()
        others = iter(PALETTE * len(ranks))
        for name, case_ranks in ranks.items():
            means = case_ranks.mean(KS)
            colour, width = (ACCENT, 2.6) if name == highlight else (next(others), 1.3)
            axes.plot(KS, [means[f"hr@{k}"] for k in KS], marker="o", ms=3.5, label=name, color=colour, lw=width)
        axes.set_xscale("log")
        axes.set_xticks(KS, [str(k) for k in KS])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("k")
        axes.set_ylabel("cases with a hit in the first k")
        axes.legend(fontsize=9)
        return as_svg(figure)


def slice_bars(groups: Mapping[str, Sequence[Slice]], highlight: str) -> str:
    """NDCG per slice, scorers side by side; the slices of all scorers are the same."""
    labels = [f"{piece.label}\n{piece.count:,}" for piece in next(iter(groups.values()))]
    width = 0.8 / len(groups)
    with mpl.rc_context(STYLE):
        figure, axes = canvas()
        for index, (name, pieces) in enumerate(groups.items()):
            places = np.arange(len(pieces)) + (index - (len(groups) - 1) / 2) * width
            colour = ACCENT if name == highlight else MUTED
            axes.bar(places, [piece.ndcg for piece in pieces], width=width * 0.94, color=colour, label=name)
        axes.set_xticks(range(len(labels)), labels)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("NDCG@10")
        axes.legend(fontsize=9)
        return as_svg(figure)


def popularity_shares(shown: Mapping[str, NDArray[np.int64]], train_counts: NDArray[np.int64]) -> str:
    """Stacked bars: which part of the catalogue, by popularity, makes up each of several item counts `[N + 1]`."""
    groups = popularity_groups(train_counts)[1:]
    colours = ("#17398f", "#5b84e6", "#b7c9f6", "#e8c9a8")
    with mpl.rc_context(STYLE):
        figure, axes = canvas(height=0.9 + 0.5 * len(shown))
        names = list(shown)[::-1]
        left = np.zeros(len(names))
        for group, label in enumerate(POPULARITY_LABELS):
            part = np.array([shown[name][1:][groups == group].sum() / max(1, shown[name][1:].sum()) for name in names])
            axes.barh(names, part, left=left, color=colours[group], height=0.62, label=label)
            for row, share in enumerate(part):
                if share >= 0.06:
                    ink = "white" if group < 2 else INK
                    axes.text(
                        left[row] + share / 2, row, f"{share:.0%}", ha="center", va="center", color=ink, fontsize=9
                    )
            left += part
        axes.set_xlim(0, 1)
        axes.grid(visible=False)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.45, 1.0), fontsize=9)
        return as_svg(figure)


Curves = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""What was said and what happened, both lowest first, by name."""


def reliability(curves: Curves) -> str:
    """Probabilities against rates, on logarithmic axes, along the diagonal."""
    values = np.concatenate([side for curve in curves.values() for side in curve] or [np.array([1e-3])])
    low = max(float(values[values > 0].min(initial=1.0)) / 2, 1e-5)
    return _agreement(curves, (low, 1.0), ("predicted probability", "observed rate"))


def amounts(curves: Curves) -> str:
    """Expected amounts against what was paid, on logarithmic axes, along the diagonal; at least one amount."""
    values = np.concatenate([side for curve in curves.values() for side in curve])
    return _agreement(curves, (float(values.min()) / 1.5, float(values.max()) * 1.5), ("expected amount", "mean paid"))


def _agreement(curves: Curves, limits: tuple[float, float], labels: tuple[str, str]) -> str:
    with mpl.rc_context(STYLE):
        figure, axes = canvas(height=4.2)
        axes.plot(limits, limits, color=MUTED, lw=1, ls="--")
        for colour, (name, (said, happened)) in zip((ACCENT, *PALETTE * len(curves)), curves.items(), strict=False):
            axes.plot(said, happened, marker="o", ms=4, lw=1.4, color=colour, label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(*limits)
        axes.set_ylim(*limits)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.legend(fontsize=9)
        return as_svg(figure)


def learning_curve(path: Path) -> str | None:
    """Training loss and validation NDCG by epoch from a Lightning `metrics.csv`; None when it holds neither."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    loss, quality = _column(rows, "train/loss"), _column(rows, "val/ndcg@10")
    if not loss and not quality:
        return None
    with mpl.rc_context(STYLE):
        figure, axes = canvas()
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.plot(*_points(loss), color=MUTED, lw=1.6)
        axes.set_ylabel("training loss", color="#6b7686")
        right = axes.twinx()
        right.spines["right"].set_visible(False)
        right.grid(visible=False)
        right.plot(*_points(quality), color=ACCENT, lw=2.2, marker="o", ms=3)
        right.set_ylabel("validation NDCG@10", color=ACCENT)
        return as_svg(figure)


def _column(rows: Sequence[Mapping[str, str]], name: str) -> list[tuple[float, float]]:
    return [(float(row["epoch"]), float(row[name])) for row in rows if row.get(name) and row.get("epoch")]


def _points(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [epoch + 1 for epoch, _ in pairs], [value for _, value in pairs]


def canvas(height: float = 3.4, width: float = 6.4) -> tuple[Figure, Axes]:
    """Return an empty transparent figure of that size in inches, and its axes; use it inside `rc_context(STYLE)`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.tick_params(length=0)
    return figure, axes


def as_svg(figure: Figure) -> str:
    """Return the figure as an `<svg>` element; equal figures give equal text."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
