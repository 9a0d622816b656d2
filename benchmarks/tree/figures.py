"""The pictures of INDIS's figures 2 and 3, as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from trainer.report.curves import COOL, INK, MUTED, PALE, SMALL, TEXT, WARM, write

from .data import Tree
from .study import ORACLE, PHI, SHARED, UNIFORM, Picture

DPI, WIDTH = 110, 9.0
TITLES = {UNIFORM: "uniform", SHARED: "best shared", ORACLE: "own schedule (oracle)", PHI: "own schedule (phi)"}
STYLES = {UNIFORM: (MUTED, "s"), SHARED: (COOL, "o"), PHI: (WARM, "D")}
LEAST_ERROR, LARGEST_ERROR = 1e-3, 1.0
"""Ends of the colours: distances of an endpoint from the teacher's."""


def errors_over_noise(picture: Picture, path: Path) -> None:
    """Figure 2: noise samples coloured by the distance of their endpoints from the teacher's, and the endpoints on the
    tree below."""
    figure = _figure(4.7)
    axes = figure.subplots(2, len(picture.endpoints), squeeze=False)
    for column, (name, end) in enumerate(picture.endpoints.items()):
        distance = (end - picture.target).norm(dim=1).clamp_min(LEAST_ERROR).numpy()
        mse = float(((end - picture.target) ** 2).mean())
        order = np.argsort(distance)
        colours = {"cmap": "viridis", "norm": LogNorm(LEAST_ERROR, LARGEST_ERROR), "s": 4, "linewidths": 0}
        points = axes[0, column].scatter(*picture.noise.numpy()[order].T, c=distance[order], **colours)
        axes[0, column].set_title(f"{TITLES[name]}\nMSE {mse:.4f}", fontsize=TEXT, color=INK)
        _draw_tree(axes[1, column], picture.tree)
        axes[1, column].scatter(*end.numpy().T, s=2, color=COOL, linewidths=0, zorder=3)
        _plain(axes[0, column], 3.2 * picture.tree.sigma_max)
        _plain(axes[1, column], 2.1)
    bar = figure.colorbar(points, ax=list(axes.flat), pad=0.01, aspect=40, shrink=0.96)
    bar.set_label("distance of the endpoint", fontsize=SMALL, color=INK)
    bar.ax.tick_params(labelsize=SMALL)
    axes[0, 0].set_ylabel("initial noise", fontsize=TEXT, color=INK)
    axes[1, 0].set_ylabel("endpoints on the tree", fontsize=TEXT, color=INK)
    write(figure, path)


def distances_over_calls(studies: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Figure 3: mean squared error, KL divergence and Wasserstein distance over the calls, seeds' means and ranges."""
    figure = _figure(3.2)
    labels = {"mse": "mean squared error", "kl": "KL divergence, nats", "wasserstein": "Wasserstein distance"}
    for axes, (field, label) in zip(figure.subplots(1, len(labels)), labels.items(), strict=True):
        for name, (colour, marker) in STYLES.items():
            curves = [study["curves"][name] for study in studies]
            calls = [int(n) for n in curves[0]]
            values = np.array([[distance[field] for distance in curve.values()] for curve in curves])
            axes.fill_between(calls, values.min(0), values.max(0), color=colour, alpha=0.18, linewidth=0)
            axes.plot(calls, values.mean(0), color=colour, marker=marker, ms=4, lw=1.6, label=TITLES[name])
        axes.set_yscale("log")
        axes.set_title(label, fontsize=TEXT, color=INK, loc="left")
        axes.set_xlabel("network calls", fontsize=SMALL, color=INK)
        axes.set_xticks(calls)
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(labelsize=SMALL, colors=INK)
        axes.grid(which="both", color=PALE, lw=0.4, alpha=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=SMALL)
    write(figure, path)


def _draw_tree(axes: Any, tree: Tree) -> None:
    for branch in tree.branches:
        ends = np.array([branch.start, branch.end])
        width = 5.0 * abs(branch.end - branch.start)
        axes.plot(ends.real, ends.imag, color=WARM, alpha=0.45, lw=max(0.8, width), solid_capstyle="round")


def _plain(axes: Any, reach: float) -> None:
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_color(PALE)


def _figure(height: float) -> Figure:
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
