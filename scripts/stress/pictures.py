"""The pictures beside the reports, one function each: figures in, the text of an SVG file out.

A report `X.md` gets its picture as `X.svg` in the same folder, see `drawing.beside`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from retrank.training.figures import ACCENT, GRID, INK, MUTED
from stress.drawing import (
    ALARM,
    COLOURS,
    GOOD,
    drawn,
    legend_above,
    name_rows,
    reach,
    stacked,
    tall,
    thousands,
)

_SHARES = np.concatenate([np.linspace(0, 0.9, 91), 1 - np.geomspace(0.1, 1e-4, 121)])
_MOST_POINTS = 4_000
_STATUSES = {"2xx": GOOD, "4xx": ACCENT, "documented 5xx": COLOURS[1], "hung up": MUTED, "fault": ALARM}


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
    shown = (took > np.quantile(took, 0.995)) | (np.arange(len(at)) % step == 0)

    def paint(axes: Axes) -> None:
        axes.plot(at[shown], took[shown], ".", ms=2, color=MUTED, label="a request", rasterized=False)
        axes.plot(*_each_second(at, took, 0.99), color=ACCENT, lw=1.6, label="p99 of a second")
        for name, moments in marks_s.items():
            for number, moment in enumerate(moments):
                axes.axvline(moment, color=INK, lw=0.7, ls=":", label=name if number == 0 else None)
        if failed_s:
            axes.plot(failed_s, np.full(len(failed_s), took.max()), "x", color=ALARM, label="failed")
        axes.set_yscale("log")
        axes.set_xlabel("seconds")
        axes.set_ylabel("milliseconds")
        legend_above(axes)

    return drawn(paint)


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

    def paint(axes: Axes) -> None:
        for (name, values), colour in zip(latencies_ms.items(), COLOURS * len(latencies_ms), strict=False):
            axes.plot(_tail(_SHARES), np.quantile(values, _SHARES), color=colour, lw=1.8, label=name)
        for name, (share, most_ms) in goals.items():
            axes.plot(_tail(np.array([share])), [most_ms], "v", color=INK, ms=7)
            axes.annotate(name, (float(_tail(np.array([share]))[0]), most_ms), (4, 6), textcoords="offset points")
        ticks = np.array([0.0, 0.5, 0.9, 0.99, 0.999, 0.9999])
        axes.set_xticks(_tail(ticks), ["min", "p50", "p90", "p99", "p99.9", "p99.99"])
        axes.set_yscale("log")
        axes.set_ylabel("milliseconds")
        axes.legend(fontsize=9)

    return drawn(paint)


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

    def paint(axes: Axes) -> None:
        axes.axvspan(0, warm_at, color=GRID, lw=0, label="warm-up")
        axes.axhline(1.0, color=INK, lw=0.8)
        axes.axhline(1.01, color=ALARM, lw=0.8, ls="--", label="+1 %")
        for (name, values), colour in zip(held.items(), COLOURS, strict=False):
            series = np.asarray(values)
            axes.plot(asked, series / series[np.searchsorted(asked, warm_at)], color=colour, lw=1.8, label=name)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
        axes.xaxis.set_major_formatter(thousands)
        axes.set_xlabel("requests answered")
        axes.set_ylabel(unit)
        axes.legend(fontsize=9)

    return drawn(paint)


class Waits(NamedTuple):
    """How long something took: quantiles in milliseconds, the lowest first, and what they should stay below."""

    quantiles_ms: Sequence[float]
    goal_ms: float | None = None


def waits(rows: Mapping[str, Mapping[str, Waits]], quantiles_said: str) -> str:
    """How long things took, on a logarithmic axis: a row each, a line per kind of wait, a tick where a goal is.

    Args:
        rows: waits by kind, by the name of the row.
        quantiles_said: which quantiles the dots are.
    """
    kinds = list(dict.fromkeys(kind for row in rows.values() for kind in row))

    def paint(axes: Axes) -> None:
        for kind, colour in zip(kinds, COLOURS, strict=False):
            shift = (kinds.index(kind) - (len(kinds) - 1) / 2) * 0.24
            for number, row in enumerate(rows.values()):
                if kind not in row:
                    continue
                reach(axes, number + shift, row[kind].quantiles_ms, colour=colour)
                goal_ms = row[kind].goal_ms
                if goal_ms is not None:
                    axes.plot([goal_ms, goal_ms], [number - 0.4, number + 0.4], color=INK, lw=1.6)
            axes.plot([], [], "o-", color=colour, label=kind)
        if any(wait.goal_ms is not None for row in rows.values() for wait in row.values()):
            axes.plot([], [], "|", color=INK, ms=12, mew=1.6, label="at most")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(thousands)
        axes.set_xlabel(f"milliseconds: {quantiles_said}")
        name_rows(axes, list(rows))
        legend_above(axes)

    return drawn(paint, height=tall(len(rows) * max(1.0, 0.6 * len(kinds)).__ceil__()))


def kills(moments: Mapping[str, int], events: Mapping[str, int]) -> str:
    """What a process was doing when it was killed, and what became of the events; a zero is drawn as the word.

    Args:
        moments: kills, by what the process was doing.
        events: numbers of events, by what became of them.
    """
    rows = {f"killed while {name}": count for name, count in moments.items()} | dict(events)

    def paint(axes: Axes) -> None:
        colours = [MUTED] * len(moments) + [ACCENT] * len(events)
        axes.barh(range(len(rows)), list(rows.values()), height=0.62, color=colours, left=0.7)
        for number, count in enumerate(rows.values()):
            said, colour = (f"{count:,}", INK) if count else ("none", GOOD)
            end = (0.7 + count, number)
            axes.annotate(said, end, (5, 0), textcoords="offset points", va="center", color=colour)
        axes.set_xscale("log")
        axes.set_xlim(0.7, max(rows.values()) * 6)
        axes.xaxis.set_major_formatter(thousands)
        name_rows(axes, list(rows))

    return drawn(paint, height=tall(len(rows)))


def replica_memory(rows: Mapping[str, tuple[float, float]], goals: Mapping[str, float]) -> str:
    """Memory of processes that map the same files: what the files back, and what is each one's own.

    Args:
        rows: megabytes that files back, and that none backs, by the name of the row.
        goals: megabytes that a row should stay below, by its name.
    """

    def paint(axes: Axes) -> None:
        parts = {name: {"mapped from files": shared, "no file behind it": own} for name, (shared, own) in rows.items()}
        stacked(axes, parts, {"mapped from files": ACCENT, "no file behind it": COLOURS[1]})
        for number, name in enumerate(rows):
            if name in goals:
                first = name == next(iter(goals))
                said = "goal" if first else None
                axes.plot([goals[name]] * 2, [number - 0.42, number + 0.42], color=INK, lw=1.6, label=said)
        axes.xaxis.set_major_formatter(thousands)
        axes.set_xlabel("proportional megabytes, all processes of the row together")
        legend_above(axes)

    return drawn(paint, height=tall(len(rows)))


def ingest(rows: Mapping[str, tuple[float, float]], goal_events: float, goal_ms: float) -> str:
    """Events a second against how long a receipt takes at p99; what is right of and below the lines meets the goal.

    Args:
        rows: events a second and milliseconds, by the name of the load.
        goal_events: events a second to reach.
        goal_ms: milliseconds to stay below.
    """

    def paint(axes: Axes) -> None:
        axes.axhline(goal_ms, color=INK, lw=1.0, ls="--")
        axes.axvline(goal_events, color=INK, lw=1.0, ls="--")
        for (name, (events, took_ms)), colour in zip(rows.items(), COLOURS * len(rows), strict=False):
            axes.plot([events], [took_ms], "o" if "open" in name else "s", ms=8, color=colour, label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(thousands)
        axes.yaxis.set_major_formatter(thousands)
        axes.set_xlabel("events a second")
        axes.set_ylabel("p99 of a receipt, ms")
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))

    return drawn(paint, height=3.8)


def fuzz(answers: Mapping[str, Mapping[str, int]]) -> str:
    """What every engine's requests were answered with, as shares.

    Args:
        answers: counts by the keys `2xx`, `4xx`, `documented 5xx`, `hung up` and `fault`, by engine.
    """
    rows = {
        f"{name}, {sum(parts.values()):,}": {part: count / max(1, sum(parts.values())) for part, count in parts.items()}
        for name, parts in answers.items()
    }

    def paint(axes: Axes) -> None:
        stacked(axes, rows, _STATUSES)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        legend_above(axes)

    return drawn(paint, height=tall(len(rows)))


def memory(curves: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> str:
    """Memory over requests: `curves` by name, requests and mebibytes at each look."""

    def paint(axes: Axes) -> None:
        for (name, (requests, held)), colour in zip(curves.items(), COLOURS, strict=False):
            axes.plot(requests, held, color=colour, lw=1.8, label=name)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(thousands)
        axes.set_xlabel("requests")
        axes.set_ylabel("MiB resident")
        axes.legend(fontsize=9)

    return drawn(paint)


class Flip(NamedTuple):
    """One bit that was turned: in which file, how far into it in [0, 1], where it was found out, "" when it was not."""

    file: str
    place: float
    found: str


def flips(done: Sequence[Flip]) -> str:
    """Every bit that was turned, by file and place in it; what was not refused is a cross."""
    files = sorted({flip.file for flip in done})
    stages = sorted({flip.found for flip in done if flip.found})

    def paint(axes: Axes) -> None:
        for stage, colour in zip(stages, COLOURS, strict=False):
            found = [flip for flip in done if flip.found == stage]
            rows = [files.index(flip.file) for flip in found]
            axes.plot([flip.place for flip in found], rows, "|", ms=8, mew=1.2, color=colour, label=stage)
        missed = [flip for flip in done if not flip.found]
        if missed:
            rows = [files.index(flip.file) for flip in missed]
            axes.plot([flip.place for flip in missed], rows, "x", ms=10, mew=2.4, color=ALARM, label="not refused")
        axes.set_xlim(-0.01, 1.01)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_xlabel("place in the file")
        name_rows(axes, files)
        legend_above(axes)

    return drawn(paint, height=tall(len(files)) * 0.72)
