"""Where a fit begins."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from dyweight import DyWeight, Solver, SolverSet
from dyweight.between import Between, nearest

LOWER_TIME_SCALE = 0.9
"""Asking the network a little below the noise level of the state opens a valley of its own, often the deeper one."""
INTO_THE_STEP = 0.35
"""Of a step of a flow, whose levels are times: how far into it the network is asked. So the last call, on the way to 0,
begins near where it ends; from 0.9 of the level the fit often stops in a worse valley before that."""
ORDER = 2
"""Of Adams-Bashforth; of order 3 the fit begins farther from where it ends."""


def start_of(solver: Solver) -> Solver:
    """A new solver of this kind where gauss-newton begins: a low order, asked below the noise level of the states."""
    start = copy.deepcopy(solver).requires_grad_(False)
    if isinstance(start, DyWeight) and start.order > ORDER:
        start.weights.zero_()
        start.weights[:, :ORDER] = DyWeight(start.sigmas, ORDER).weights
        start.tie_guidance()
    with torch.no_grad():
        start.lower_time(_lower(solver))
    return start


def _lower(solver: Solver) -> float | Tensor:
    """Where the network is asked, in parts of the level of the state: [rows], or one for all."""
    levels = solver.sigmas
    if not isinstance(solver, DyWeight) or float(levels[0]) > 1 or float(levels[-1]) > 0:
        return LOWER_TIME_SCALE
    return 1 - INTO_THE_STEP * (1 - levels[1:] / levels[:-1])


def starts_from(solver: Solver, fitted: Sequence[Solver]) -> list[Solver]:
    """What solvers for other numbers of steps learned, carried over to this one; none where it can't be."""
    if not fitted or not isinstance(solver, DyWeight):
        return []
    below, above = nearest(SolverSet(fitted), solver.steps)
    try:
        plan = Between(below, above, solver.sigmas).plan()
        return [copy.deepcopy(solver).requires_grad_(False).set_table(plan)]
    except ValueError:
        return []
