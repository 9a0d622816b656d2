"""The figure of the study of transfer: a matrix for each number of steps, and the variants of the FLUX."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm

from trainer.report.curves import COOL, DIVERGING, INK, LEGEND, MUTED, SMALL, WARM, write

from .panels import log_scale, panels

FARTHEST = 30.0
"""Where the colours end: an error so many times that of the best handcrafted solver, or as small a part of it."""
ROWS = (
    ("gauss-newton", "coefficients", "weights carried"),
    ("gauss-newton", "own schedule", "on its own schedule"),
    ("adam", "coefficients", "Adam, weights carried"),
)
"""Method, way of carrying, title."""
SERIES = {"own schedule": (WARM, "o", "file of the model as made"), "native": (WARM, "D", "the variant's own")}


def figure(matrices: Mapping[str, Any], variants: Mapping[str, Any], path: Path) -> None:
    """matrices: method -> steps -> model -> errors. variants: variant -> errors. Either may be empty."""
    drawn_rows = [row for row in ROWS if row[0] in matrices]
    heights = [2.6] * len(drawn_rows) + [2.3] * bool(variants)
    drawn, axes = panels(
        "Coefficients of other models: error over that of the best handcrafted",
        heights,
        max([1, *map(len, matrices.values())]),
    )
    for row, (method, kind, title) in zip(axes, drawn_rows, strict=False):
        for one, (steps, errors) in zip(row, matrices[method].items(), strict=True):
            _draw_matrix(one, errors, kind)
            one.set_title(f"{title}, {steps} steps", fontsize=SMALL, loc="left", color=INK)
    if variants:
        for one in axes[-1, 1:]:
            one.remove()
        axes[-1, 0].set_subplotspec(axes[-1, 0].get_gridspec()[len(heights) - 1, :])
        _draw_variants(axes[-1, 0], variants)
    write(drawn, path)


def _draw_matrix(axes: Any, rows: Mapping[str, Any], kind: str) -> None:
    """A cell: the mean error of a column's coefficients on a row's model, over the row's best handcrafted error."""
    names = list(rows)
    ratios = np.array([[_ratio(rows[name], rows[name][kind][of]) for of in names] for name in names])
    axes.imshow(ratios, cmap=DIVERGING.reversed(), norm=LogNorm(1 / FARTHEST, FARTHEST), aspect="auto")
    for row, column in np.ndindex(*ratios.shape):
        ratio = ratios[row, column]
        text = "-" if math.isnan(ratio) else f"{ratio:.2g}" if ratio < 99.5 else ">99"
        weight = "bold" if row == column else "normal"
        axes.text(column, row, text, ha="center", va="center", fontsize=SMALL - 1, color=INK, weight=weight)
    shown = [name.replace("digits_", "") for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), shown)
    axes.grid(False)
    axes.set_xlabel("made on", fontsize=SMALL - 1)
    axes.set_ylabel("used on", fontsize=SMALL - 1)


def _ratio(row: Mapping[str, Any], values: Sequence[float | None]) -> float:
    finite = [value for value in values if value is not None]
    return statistics.mean(finite) / min(row["handcrafted"].values()) if finite else math.nan


def _draw_variants(axes: Any, variants: Mapping[str, Any]) -> None:
    at = np.arange(len(variants))
    for shift, (kind, (colour, marker, label)) in zip((-0.12, 0.12), SERIES.items(), strict=True):
        values = [[value for value in row[kind] if value is not None] or [math.nan] for row in variants.values()]
        means = np.array([statistics.mean(one) for one in values])
        spread = np.abs(np.array([[min(one), max(one)] for one in values]).T - means)
        filled = colour if kind == "native" else "white"
        axes.errorbar(at + shift, means, spread, fmt=marker, color=colour, mfc=filled, ms=5, lw=1, label=label)
    best = [min(row["handcrafted"].values()) for row in variants.values()]
    axes.plot(at, best, "_", color=COOL, ms=18, mew=2, label="best handcrafted")
    axes.set_xticks(at, list(variants), rotation=20, ha="right")
    log_scale(axes)
    axes.set_ylabel("a small FLUX: error", fontsize=SMALL)
    axes.tick_params(color=MUTED)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, **LEGEND)
