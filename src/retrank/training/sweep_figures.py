"""The two plots of a sweep: which settings led where, and how the trials learned."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from retrank.training.figures import ACCENT, INK, STYLE, as_svg, canvas
from retrank.training.sweep_trials import Setting, Trial, ranked, shown, varied

_COLD_TO_WARM = LinearSegmentedColormap.from_list("quality", ["#c3cad6", "#8fb0ee", ACCENT])
_FAILED, _FAILED_PLACE = "#b94a5c", -0.14
_LOG_RATIO = 20  # values that span more than this are shown on a logarithmic axis
_FEW = 5  # distinct values that get a place each
_OBJECTIVE = "NDCG@10\non validation"


class _Scale(NamedTuple):
    """One vertical axis: where a value stands (0 at the bottom, 1 at the top) and what is written beside it."""

    places: list[str] | None  # one per value where values are few; None = a numeric axis from low to high
    low: float
    high: float
    log: bool

    def height(self, value: Setting) -> float:
        """Return where a value stands."""
        if self.places is not None:
            return (self.places.index(shown(value)) + 0.5) / len(self.places)
        assert isinstance(value, int | float)
        low, high, at = (np.log(x) if self.log else x for x in (self.low, self.high, float(value)))
        return float((at - low) / (high - low)) if high > low else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        """Return heights and texts."""
        if self.places is not None:
            return [(self.height(name), name or "none") for name in self.places]
        if self.high == self.low:
            return [(0.5, f"{self.low:.3g}")]
        shares = np.linspace(0, 1, 5)
        if self.log:
            return [(share, f"{self.low * (self.high / self.low) ** share:.2g}") for share in shares]
        return [(share, f"{self.low + (self.high - self.low) * share:.3g}") for share in shares]


def parallel_coordinates(trials: Sequence[Trial]) -> str:
    """One line per trial through its settings to its validation NDCG@10; failed trials end below the last axis."""
    names = varied(trials)
    scales = [_scale([trial.params.get(name) for trial in trials]) for name in names]
    found = [trial.value for trial in trials if trial.value is not None]
    objective = _Scale(None, min(found, default=0.0), max(found, default=0.0), log=False)
    with mpl.rc_context(STYLE):
        figure, axes = canvas(height=4.6, width=max(7.0, 2.0 * (len(names) + 1)))
        for trial in reversed(ranked(trials)):  # the best lines are drawn last, on top
            heights = [scale.height(trial.params.get(name)) for scale, name in zip(scales, names, strict=True)]
            best = bool(found) and trial.value == max(found)
            place = _FAILED_PLACE if trial.value is None else objective.height(trial.value)
            _line(axes, [*heights, place], best=best, failed=trial.value is None)
        for at, (name, scale) in enumerate([*zip(names, scales, strict=True), (_OBJECTIVE, objective)]):
            _axis(axes, at, name.replace(".", "\n", 1), scale)
        if any(trial.value is None for trial in trials):
            axes.text(len(names) + 0.05, _FAILED_PLACE, "failed", va="center", color=_FAILED)
        axes.set_xlim(-0.3, len(names) + 0.45)
        axes.set_ylim(-0.2, 1.2)
        axes.set_axis_off()
        return as_svg(figure)


def validation_curves(trials: Sequence[Trial]) -> str:
    """Validation NDCG@10 by epoch, a line per trial; the five best are named."""
    order = [trial for trial in ranked(trials) if trial.curve]
    with mpl.rc_context(STYLE):
        figure, axes = canvas(height=4.0, width=8.0)
        for place, trial in reversed([*enumerate(order)]):
            share = 1 - place / max(1, len(order) - 1)
            epochs, values = [epoch for epoch, _ in trial.curve], [value for _, value in trial.curve]
            axes.plot(
                epochs,
                values,
                marker="o",
                ms=2.5,
                color=_COLD_TO_WARM(share),
                lw=2.6 if place == 0 else 1.2,
                label=f"trial {trial.number}: {trial.value:.4f}" if place < 5 and trial.value is not None else None,
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation NDCG@10")
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], fontsize=9, loc="lower right")
        return as_svg(figure)


def _line(axes: Axes, heights: list[float], *, best: bool, failed: bool) -> None:
    colour = _FAILED if failed else ACCENT if best else _COLD_TO_WARM(max(0.0, heights[-1]))
    axes.plot(
        range(len(heights)),
        heights,
        color=colour,
        lw=2.8 if best else 1.3,
        ls="--" if failed else "-",
        alpha=1.0 if best else 0.85,
        solid_capstyle="round",
    )


def _axis(axes: Axes, at: int, name: str, scale: _Scale) -> None:
    axes.plot([at, at], [0, 1], color=INK, lw=1)
    axes.text(at, 1.05, name, ha="center", va="bottom", fontsize=9.5, fontweight="bold")
    for height, text in scale.ticks():
        axes.plot([at - 0.02, at], [height, height], color=INK, lw=1)
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
        axes.text(at - 0.035, height, text, ha="right", va="center", fontsize=8.5, bbox=box)


def _scale(values: Sequence[Setting]) -> _Scale:
    """Choose one place per value where they are few or not numbers, else a numeric axis."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    low, high = float(min(numbers, default=0)), float(max(numbers, default=0))
    if len(numbers) < len(values) or len(set(numbers)) <= _FEW:
        order: list[Setting] = [*sorted(numbers), *sorted(values, key=shown)]
        return _Scale(list(dict.fromkeys(shown(value) for value in order)), low, high, log=False)
    return _Scale(None, low, high, log=low > 0 and high / low > _LOG_RATIO)
