"""The picture of a solver with a learned schedule, one for all samples or one for each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dyweight import Plan, Solver

from . import curves
from .curves import COOL, INK, LOG_RATIO, PALE, WARM

MOST_LINES = 200


def schedules(solver: Solver, plans: Sequence[Plan], path: Path) -> None:
    """Noise levels of the states and of the network calls of many samples, with the base schedule.

    plans: each shared or [B, ...]; the first MOST_LINES samples are drawn. The spread in the title is the largest
    standard deviation between samples, as a fraction of the first noise level.
    """
    states = _rows([plan.sigmas for plan in plans])
    asked = _rows([plan.query_sigmas for plan in plans]) / _rows([plan.sigmas[..., :-1] for plan in plans])
    several = len(states) > 1
    of = f"{len(states)} samples, " if several else ""
    figure, axes = curves.new_figure(5.4, f"{solver.family}: {of}{solver.network_calls} calls", [2.2, 1])
    line: dict[str, Any] = {"color": WARM} | ({"lw": 0.6, "alpha": 0.25} if several else {"lw": 1.8, "marker": "o"})
    base, steps = solver.sigmas, range(states.shape[1])
    smallest = float(base[base > 0].min())
    if float(base[0]) / smallest > LOG_RATIO:
        axes[0].set_yscale("symlog", linthresh=smallest)
    axes[0].plot(steps, states[:MOST_LINES].T.numpy(), "-", label=None if several else "learned", **line)
    if states.shape[1] == len(base):
        axes[0].plot(steps, base, "-o", color=COOL, lw=1.2, ms=3.5, label="base schedule")
    if several:
        axes[0].plot(steps, states.mean(0), "--", color=INK, lw=1.2, label="mean of the samples")
    axes[0].legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 0.98), frameon=False, fontsize=8)
    title = "noise level of the states"
    if several:
        title += f"; they spread by {float((states.std(0) / base[0] * 100).max()):.1f} %"
    axes[0].set_title(title, loc="left", fontsize=9, color=INK)
    axes[1].plot(steps[:-1], asked[:MOST_LINES].T.numpy(), "-", **line)
    axes[1].axhline(1, color=PALE, lw=1)
    axes[1].set_title("noise level of the call, relative to the state's", loc="left", fontsize=9, color=INK)
    axes[1].set(xlabel="network call", xticks=range(0, states.shape[1], -(-states.shape[1] // 15)))
    curves.write(figure, path)


def _rows(values: Sequence[Tensor]) -> Tensor:
    """[samples, n] of shared [n] and batched [B, n] tensors."""
    return torch.cat([value.detach().reshape(-1, value.shape[-1]) for value in values])
