"""Where a fit begins."""

import copy
import math

import torch

from dyweight import DyWeight, FreeTable, Indis, LearnedSchedule, Solver
from dyweight.solvers.indis import LARGEST_SHIFT

LOWER_TIME_SCALE = 0.9
"""Asking the network a little below the noise level of the state opens a valley of its own, often the deeper one."""
ORDER = 2
"""Of Adams-Bashforth; of order 3 the fit begins farther from where it ends."""


def start_of(solver: Solver) -> Solver:
    """A new solver of this kind where gauss-newton begins: a low order, asked below the noise level of the states."""
    start = copy.deepcopy(solver)
    if isinstance(start, DyWeight) and start.order > ORDER:
        low = DyWeight(start.sigmas, ORDER, start.slope, start.analytic_first_step)
        with torch.no_grad():
            start.weights.zero_()
            start.weights[:, :ORDER] = low.weights
    lower_time(start)
    return start


@torch.no_grad()
def lower_time(solver: Solver) -> None:
    """Let a solver ask at LOWER_TIME_SCALE of each noise level; one that has no such number stays."""
    if isinstance(solver, DyWeight) and solver.time_scaling:
        solver.time_scale[int(solver.analytic_first_step) :] *= LOWER_TIME_SCALE
    if isinstance(solver, FreeTable | LearnedSchedule) and getattr(solver, "time_scaling", True):
        solver.log_time_scale += math.log(LOWER_TIME_SCALE)
    if isinstance(solver, Indis) and solver.shift_factors:
        lowered = 2 * math.atanh((LOWER_TIME_SCALE - 1) / LARGEST_SHIFT)
        solver.phi.leave.bias[solver.steps : solver.steps + solver.rows] = lowered
