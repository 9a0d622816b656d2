"""Figures of several panels, each with its own axes, in the style of the trainer's pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from trainer.report.curves import SMALL, style, styled


def panels(title: str, heights: Sequence[float], columns: int) -> tuple[Figure, Any]:
    """An empty figure and its axes [rows, columns]; heights: inches of each row."""
    figure = styled(sum(heights) + 0.4, title)
    axes = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for one in axes.flat:
        style(one, SMALL - 1)
    return figure, axes


def log_scale(axes: Any, names: str = "y") -> None:
    """Make the named axes, "x", "y" or "xy", logarithmic with plain numbers; call it after drawing."""
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
