"""Pictures beside the reports: SVG files with the style of the training reports.

A report `X.md` gets its picture as `X.svg` in the same folder. Every function returns the text of an SVG file; equal
figures give equal text.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from retrank.training.figures import ACCENT, GRID, INK, MUTED, PALETTE, STYLE, as_svg, canvas

_SHARES = np.concatenate([np.linspace(0, 0.9, 91), 1 - np.geomspace(0.1, 1e-4, 121)])
_ALARM = PALETTE[3]
_MOST_POINTS = 4_000


def timeline(
    at_s: Sequence[float],
    took_ms: Sequence[float],
    *,
    marks_s: Mapping[str, Sequence[float]],
    failed_s: Sequence[float],
) -> str:
    """Latency of every request over time, the p99 of every second, and what was done when.

    Args:
        at_s: when requests that were answered began, seconds from the start.
        took_ms: how long each took, milliseconds.
        marks_s: moments of what was done meanwhile, by its name.
        failed_s: when requests that failed began.
    """
    at, took = np.asarray(at_s, dtype=np.float64), np.asarray(took_ms, dtype=np.float64)
    step = max(1, len(at) // _MOST_POINTS)
    slow = took > np.quantile(took, 0.995)
    shown = slow | (np.arange(len(at)) % step == 0)
    with mpl.rc_context(STYLE):
        figure, axes = canvas(width=9.0)
        axes.plot(at[shown], took[shown], ".", ms=2, color=MUTED, label="a request", rasterized=False)
        axes.plot(*_each_second(at, took, 0.99), color=ACCENT, lw=1.6, label="p99 of a second")
        for name, moments in marks_s.items():
            for number, moment in enumerate(moments):
                axes.axvline(moment, color=INK, lw=0.7, ls=":", label=name if number == 0 else None)
        if failed_s:
            axes.plot(failed_s, np.full(len(failed_s), took.max()), "x", color=_ALARM, label="failed")
        axes.set_yscale("log")
        axes.set_xlabel("seconds")
        axes.set_ylabel("milliseconds")
        axes.legend(fontsize=9, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.16))
        return _file(as_svg(figure))


def _each_second(at: NDArray[np.float64], took: NDArray[np.float64], share: float) -> tuple[list[float], list[float]]:
    seconds = np.floor(at).astype(np.int64)
    present = np.unique(seconds)
    return [float(second) + 0.5 for second in present], [float(np.quantile(took[seconds == s], share)) for s in present]


def quantiles(latencies_ms: Mapping[str, Sequence[float]], goals: Mapping[str, tuple[float, float]]) -> str:
    """Latency by quantile, one line a case; the axis gives the last percent as much room as all before it.

    Args:
        latencies_ms: milliseconds, by case.
        goals: points that lines should stay below: share of requests in [0, 1) and milliseconds, by their name.
    """
    with mpl.rc_context(STYLE):
        figure, axes = canvas(width=9.0)
        for (name, values), colour in zip(latencies_ms.items(), (ACCENT, *PALETTE) * len(latencies_ms), strict=False):
            axes.plot(_tail(_SHARES), np.quantile(values, _SHARES), color=colour, lw=1.8, label=name)
        for name, (share, most_ms) in goals.items():
            axes.plot(_tail(np.array([share])), [most_ms], "v", color=INK, ms=7)
            axes.annotate(name, (float(_tail(np.array([share]))[0]), most_ms), (4, 6), textcoords="offset points")
        ticks = np.array([0.0, 0.5, 0.9, 0.99, 0.999, 0.9999])
        axes.set_xticks(_tail(ticks), ["min", "p50", "p90", "p99", "p99.9", "p99.99"])
        axes.set_yscale("log")
        axes.set_ylabel("milliseconds")
        axes.legend(fontsize=9)
        return _file(as_svg(figure))


def _tail(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    return -np.log10(1 - shares)


def growth(requests: Sequence[int], held: Mapping[str, Sequence[float]], warm_at: int, unit: str) -> str:
    """What a service holds over the requests it answered, as a share of what it held after the warm-up.

    Args:
        requests: how many had been answered at each look.
        held: what was held at each look, by what it is.
        warm_at: where the warm-up ended.
        unit: says what 100 % is.
    """
    asked = np.asarray(requests)
    with mpl.rc_context(STYLE):
        figure, axes = canvas(width=9.0)
        axes.axvspan(0, warm_at, color=GRID, lw=0, label="warm-up")
        axes.axhline(1.0, color=INK, lw=0.8)
        axes.axhline(1.01, color=_ALARM, lw=0.8, ls="--", label="+1 %")
        for (name, values), colour in zip(held.items(), (ACCENT, *PALETTE), strict=False):
            series = np.asarray(values)
            axes.plot(asked, series / series[np.searchsorted(asked, warm_at)], color=colour, lw=1.8, label=name)
        _percent(axes)
        axes.set_xlabel("requests answered")
        axes.set_ylabel(unit)
        axes.legend(fontsize=9)
        return _file(as_svg(figure))


def _percent(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def beside(out: Path | None, svg: str, says: str) -> list[str]:
    """Write a picture beside the report that is written to `out`, and return the lines that show it there."""
    if out is None:
        return []
    path = out.with_suffix(".svg")
    path.write_text(svg)
    return [f"![{says}]({path.name})", ""]


def _file(svg: str) -> str:
    return f'<?xml version="1.0" encoding="utf-8"?>\n{svg}'
