"""How every picture beside a report is drawn: one panel, the style of the training reports, SVG that never changes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from retrank.training.figures import ACCENT, MUTED, PALETTE, STYLE, as_svg, canvas

ALARM = PALETTE[3]
GOOD = PALETTE[1]
COLOURS = (ACCENT, PALETTE[0], GOOD, PALETTE[2], MUTED, PALETTE[4])
_WIDTH = 9.0


def drawn(paint: Callable[[Axes], None], *, height: float = 3.4) -> str:
    """Return a picture of one panel as the text of an SVG file; equal figures give equal text."""
    with mpl.rc_context(STYLE):
        figure, axes = canvas(height=height, width=_WIDTH)
        paint(axes)
        return f'<?xml version="1.0" encoding="utf-8"?>\n{as_svg(figure)}'


def tall(rows: int) -> float:
    """Return the height for so many rows, in inches."""
    return 1.1 + 0.36 * rows


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Write a name beside each row, the first one on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def reach(axes: Axes, row: float, quantiles: Sequence[float], *, colour: str, label: str | None = None) -> None:
    """Draw from the lowest quantile to the highest, a dot at each, the first one hollow."""
    low, *higher = quantiles
    axes.plot([low, quantiles[-1]], [row, row], color=colour, lw=2.2, alpha=0.45, solid_capstyle="round")
    axes.plot([low], [row], "o", ms=6, mfc="white", mec=colour, mew=1.6)
    axes.plot(higher, [row] * len(higher), "o", ms=6, color=colour, label=label)


def stacked(axes: Axes, rows: Mapping[str, Mapping[str, float]], colours: Mapping[str, str]) -> None:
    """Draw one bar per row from its parts; `colours` by part, in the order in which they are stacked."""
    left = np.zeros(len(rows))
    for part, colour in colours.items():
        widths = np.array([row.get(part, 0.0) for row in rows.values()])
        axes.barh(range(len(rows)), widths, left=left, height=0.62, color=colour, label=part)
        left += widths
    name_rows(axes, list(rows))


def legend_above(axes: Axes, columns: int = 5) -> None:
    """Put the legend above the panel."""
    axes.legend(fontsize=9, ncols=columns, loc="lower right", bbox_to_anchor=(1.0, 1.0))


def thousands(value: float, _position: float) -> str:
    """Return a number as an axis writes it."""
    return f"{value:,.0f}" if value >= 1 or value == 0 else f"{value:g}"


def beside(out: Path | None, svg: str, says: str) -> list[str]:
    """Write a picture beside the report that is written to `out`, and return the lines that show it there."""
    if out is None:
        return []
    path = out.with_suffix(".svg")
    path.write_text(svg)
    return [f"![{says}]({path.name})", ""]
