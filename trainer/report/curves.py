"""Pictures of a run as PNG files. matplotlib's object API on Agg only: no screen, no global state, safe in threads."""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator
from torch import Tensor
from torch.nn import functional

from dyweight.files import write_whole

from ..fit import Progress

INK, MUTED, PALE, FAINT = "#24292f", "#6e7781", "#b8bfc7", "#e8ebee"
WARM, COOL = "#d55e00", "#0072b2"
"""Okabe and Ito's vermilion for learned solvers, blue for references."""
HANDCRAFTED = ("#5b6b9e", "#3f8f86", "#8a7f3a", "#8b5f8f", "#4f8fb5", "#6b8f4e", "#8c6f57", "#7a828c")
MARKERS = "os^DvPXd<>ph*"
"""Markers of handcrafted solvers; eight colours and thirteen markers give 104 pairs."""
ORDER_LINES = ("-", ":", "--", "-.")
"""Line styles by order modulo 4."""
DIVERGING = LinearSegmentedColormap.from_list("dyweight", ["#3b93c8", "#f7f7f7", "#e57f33"])
FONT, TITLE, TEXT, SMALL = "DejaVu Sans", 11, 9, 8
EAST_ASIAN = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Microsoft YaHei", "Yu Gothic", "PingFang SC", "Hiragino Sans")
"""Fonts for characters that FONT lacks, if installed."""
WIDTH, DPI = 7.2, 150
"""Inches and dots per inch: 1080 pixels, slightly more than the width of a README."""
LOG_RATIO = 50
"""Above this ratio of the largest to the smallest noise level the axis is logarithmic."""

_NOTE: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL}
_PANEL: dict[str, Any] = {"loc": "left", "fontsize": TEXT, "color": INK}
LEGEND: dict[str, Any] = {"frameon": False, "fontsize": SMALL, "labelcolor": INK, "borderaxespad": 0.2}
"""Legends are above or beside the axes, where they cover no data."""

PathLike = str | Path
Curve = Mapping[int, float]


def convergence(history: Sequence[Progress], path: PathLike, title: str = "") -> None:
    """Training and validation error of a fit over the network calls, on a log scale."""
    figure, axes = new_figure(3.4, title)
    training = _drawable((line.network_calls, line.training_error) for line in history)
    validation = _drawable((line.network_calls, line.validation_error) for line in history)
    size, errors = 4 if len(history) <= 40 else 0, [*training.values(), *validation.values()]
    axes.plot([*training], [*training.values()], "-s", color=COOL, lw=1, ms=size, alpha=0.5, label="training loss")
    if validation:
        best = min(validation, key=lambda calls: validation[calls])
        label = f"validation error (best {validation[best]:.2g})"
        axes.plot([*validation], [*validation.values()], "-o", color=WARM, lw=2, ms=size, label=label)
        axes.plot(best, validation[best], "o", color=WARM, ms=10, mec="white", mew=1.5, zorder=4)
    _log_axis(axes, min(errors, default=1), 1.3 * max(errors, default=1))
    axes.set(xlim=(0, None), xlabel="network calls (forward-equivalents)", ylabel="error")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 0.98), **LEGEND)
    write(figure, path)


def error_over_steps(
    errors: Mapping[str, Curve], path: PathLike, highlighted: Curve, label: str, title: str = ""
) -> None:
    """Endpoint error over network calls on a log scale: handcrafted solvers as thin lines, the learned as large points.

    errors: solver -> network calls -> error. highlighted: network calls -> error of the solver `label`. A line leads
    from each learned point to the number of calls with which a handcrafted solver is as good, and down to the axis. The
    picture ends at three times the largest of the best errors; solvers that diverge are above it.
    """
    figure, axes = new_figure(4.4, title)
    lines, learned = {name: _drawable(line.items()) for name, line in errors.items()}, _drawable(highlighted.items())
    # The smallest error of each number of calls comes last and remains.
    best = dict(sorted((point for line in lines.values() for point in line.items()), reverse=True))
    equals = {count: min((n for n in best if best[n] <= error), default=None) for count, error in learned.items()}
    counts, shown = [*best, *learned] or [1], [*best.values(), *learned.values()] or [1.0]
    low, high = _log_axis(axes, min(shown), 3 * max(shown), below=0.22 if any(equals.values()) else 0.06)
    left, right, foot = min(counts) - 0.4, max(counts) + 0.4, low * (high / low) ** 0.16
    place, crowded = axes.get_xaxis_transform(), right - left > 11
    look = styles(list(lines))
    for name, line in sorted(lines.items(), key=lambda item: [-error for error in item[1].values()][-1:]):
        off = "" if any(error <= high for error in line.values()) else " (off the scale)"
        axes.plot([*line], [*line.values()], lw=1, ms=3.5, label=name + off, **look[name])
    for count, equal in equals.items():
        corner, error = equal or right, learned[count]
        axes.plot([count, corner, corner], [error, error, foot if equal else error], color=WARM, lw=1, alpha=0.5)
        if equal:
            text = ("" if crowded else "same error\n") + f"at {equal} calls"
            axes.text(equal, 0.08, text, transform=place, color=WARM, rotation=90 * crowded, **_NOTE)
    axes.plot([*learned], [*learned.values()], "-o", color=WARM, lw=1.2, ms=9, mec="white", zorder=4, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    axes.set(xlim=(left, right), xlabel="network calls (NFE)", ylabel="endpoint error")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), reverse=True, **LEGEND)
    write(figure, path)


def styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour and a marker for each solver; the orders of a solver, NAME:ORDER, differ in their lines."""
    solvers = list(dict.fromkeys(name.partition(":")[0] for name in names))
    found = {}
    for name in names:
        (solver, _, order), count = name.partition(":"), len(HANDCRAFTED)
        index = solvers.index(solver)
        marker = MARKERS[(index + index // count) % len(MARKERS)]
        line = ORDER_LINES[int(order) % len(ORDER_LINES)] if order.isdecimal() else "-"
        found[name] = {"color": HANDCRAFTED[index % count], "marker": marker, "linestyle": line}
    return found


def scatter(points: Mapping[str, Tensor], path: PathLike, title: str = "") -> None:
    """The first two coordinates of endpoints, a panel for each sampler, with the teacher's in grey.

    points: label -> [count, dimension]; the first is the teacher.
    """
    flat = {label: functional.pad(x.detach().float().cpu().flatten(1), (0, 1))[:, :2].T for label, x in points.items()}
    (name, teacher), *others = flat.items()
    rows = math.ceil(len(others) / 4) or 1
    columns = math.ceil(len(others) / rows) or 1
    figure, _ = new_figure(min(WIDTH / columns, 4) * rows + 0.6, f"{title} (grey: {name})", [1.0] * rows, columns)
    margin = 0.15 * (teacher.amax(1) - teacher.amin(1)).clamp_min(1e-6)
    limits = torch.stack([teacher.amin(1) - margin, teacher.amax(1) + margin], 1).tolist()
    for axes in figure.axes[max(1, len(others)) :]:
        axes.remove()
    for axes, (label, own) in zip(figure.axes, others or [("", teacher[:, :0])], strict=True):
        axes.scatter(teacher[0], teacher[1], s=16, color=PALE, lw=0)
        axes.scatter(own[0], own[1], s=5, color=WARM, lw=0)
        axes.set(xlim=limits[0], ylim=limits[1])
        axes.set_title(label, **_PANEL)
    write(figure, path)


def new_figure(height: float, title: str, heights: Sequence[float] = (1,), columns: int = 1) -> tuple[Figure, Any]:
    """An empty figure in the common style, and its axes: [rows, columns], which share their x."""
    figure = styled(height, title)
    axes = figure.subplots(len(heights), columns, sharex=True, sharey=columns > 1, height_ratios=heights)
    for one in figure.axes:
        style(one)
        one.tick_params(labelbottom=columns > 1 or one is figure.axes[-1])
    return figure, axes


def styled(height: float, title: str) -> Figure:
    """An empty figure in the common style, without axes."""
    figure = Figure((WIDTH, height), DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=TITLE, color=INK, weight="bold")
    return figure


def style(axes: Any, size: float = SMALL) -> None:
    """Give axes the common style. size: of the numbers at the ticks."""
    axes.set(facecolor="white", axisbelow=True)
    axes.spines[:].set(color=MUTED)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=FAINT, lw=0.8)
    axes.tick_params(which="both", labelsize=size, labelcolor=INK, color=MUTED)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(fontsize=TEXT, color=INK)


def _log_axis(axes: Any, low: float, high: float, below: float = 0.06) -> tuple[float, float]:
    """Make the y axis logarithmic up to `high`, over a factor of 4 or more; a fraction of it is empty below `low`.

    Returns its limits.
    """
    low = min(low, high / 4)
    low *= (low / high) ** (below / (1 - below))
    axes.set(yscale="log", ylim=(low, high))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    return low, high


def _drawable(points: Iterable[tuple[int, float]]) -> dict[int, float]:
    """The points that a log axis can show, as a dictionary."""
    return dict(sorted((at, error) for at, error in points if 0 < error < math.inf))


@functools.cache
def fonts() -> list[str]:
    """FONT and the installed fonts of EAST_ASIAN."""
    installed = set(fontManager.get_font_names())
    return [FONT, *(name for name in EAST_ASIAN if name in installed)]


def write(figure: Figure, path: PathLike) -> None:
    """A figure as a PNG file."""
    for text in figure.findobj(Text):
        text.set(fontfamily=fonts(), parse_math=False)
    content, box = BytesIO(), None if figure.get_layout_engine() else "tight"
    figure.savefig(content, format="png", dpi=DPI, bbox_inches=box, pad_inches=0.12)
    write_whole(Path(path), content.getvalue())
