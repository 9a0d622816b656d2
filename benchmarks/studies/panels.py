"""Figures of several panels with axes of their own, in the look of the trainer's pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from trainer.report.curves import DPI, FAINT, INK, MUTED, SMALL, TITLE, WIDTH


def panels(title: str, heights: Sequence[float], columns: int) -> tuple[Figure, Any]:
    """An empty figure and its axes [rows, columns]; heights: inches of each row."""
    figure = Figure((WIDTH, sum(heights) + 0.4), DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=TITLE, color=INK, weight="bold")
    axes = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for one in axes.flat:
        one.set(axisbelow=True)
        one.spines[:].set(color=MUTED)
        one.spines[["top", "right"]].set_visible(False)
        one.grid(color=FAINT, lw=0.8)
        one.tick_params(which="both", labelsize=SMALL - 1, labelcolor=INK, color=MUTED)
    return figure, axes


def log_scale(axes: Any, names: str = "y") -> None:
    """Log scales on the axes named, "x", "y" or "xy", with plain numbers; call it after drawing."""
    for name in names:
        axes.set(**{f"{name}scale": "log"})
        low, high = sorted(getattr(axes, f"get_{name}lim")())
        axis = getattr(axes, f"{name}axis")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 and name == "y" else (1,)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())


def draw_range(
    axes: Any, at: Sequence[float], values: Sequence[Sequence[float]], colour: str, style: str, label: str
) -> None:
    """A line through the means over the seeds, in a band from the smallest to the largest. values: [points][seeds]."""
    table = np.array(values, dtype=float)
    axes.fill_between(at, table.min(1), table.max(1), color=colour, alpha=0.18, lw=0)
    axes.plot(at, table.mean(1), style, color=colour, lw=1.4, ms=3.5, label=label)
