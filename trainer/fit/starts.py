"""Where a fit begins: the problem has several valleys, and which is the deepest differs by model."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dyweight import DyWeight, FreeTable, Indis, LearnedSchedule, Solver
from dyweight.solvers.dyweight import Initial
from dyweight.solvers.indis import LARGEST_SHIFT

from .parameters import DyWeightParameters, FewNumbers, OwnNumbers, Parameters

LOWER_TIME_SCALE = 0.9
"""Asking the network a little below the noise level of the state opens a valley of its own, often the deeper one."""


@dataclass(frozen=True)
class Start:
    """A parameterisation and where in it to begin."""

    parameters: Parameters[Any]
    vector: Tensor
    """[count] float64"""


def as_it_is(solver: FewNumbers) -> Start:
    """The solver's own numbers."""
    return _start(solver, solver, free=True) if isinstance(solver, DyWeight) else _own(solver)


def worth_exploring(solver: FewNumbers) -> list[Start]:
    """Starts that between them led to the best valley on the models of docs/fitting.md.

    A learned schedule and a free table begin as they are, and asked at LOWER_TIME_SCALE of each noise level.
    """
    if not isinstance(solver, DyWeight):
        return _own_and_lower(solver)
    first = int(solver.analytic_first_step)
    return [
        _start(solver, _untrained(solver, "adams-bashforth", lowered=slice(first, first + 1)), free=True),
        _start(solver, _untrained(solver, "adams-bashforth", lowered=slice(first, None)), free=False),
        _start(solver, _untrained(solver, "euler", lowered=slice(first, None)), free=True),
    ]


@torch.no_grad()
def lower_time(solver: Solver) -> None:
    """Let an untrained INDIS with time shifts ask at LOWER_TIME_SCALE of each noise level; another solver stays."""
    if isinstance(solver, Indis) and solver.shift_factors:
        lowered = 2 * math.atanh((LOWER_TIME_SCALE - 1) / LARGEST_SHIFT)
        solver.phi.leave.bias[solver.steps : solver.steps + solver.rows] = lowered


def _untrained(solver: DyWeight, initial: Initial, lowered: slice) -> DyWeight:
    untrained = DyWeight(
        solver.sigmas,
        solver.order,
        solver.slope,
        solver.analytic_first_step,
        initial=initial,
        time_shifting=solver.time_shifting,
        time_scaling=solver.time_scaling,
    ).requires_grad_(False)
    if solver.time_scaling:
        untrained.time_scale[lowered] = LOWER_TIME_SCALE
    return untrained


def _start(solver: DyWeight, begin: DyWeight, free: bool) -> Start:
    parameters = DyWeightParameters(solver, free)
    return Start(parameters, parameters.read(begin))


def _own(solver: LearnedSchedule | FreeTable) -> Start:
    parameters = OwnNumbers(solver)
    return Start(parameters, parameters.read(solver))


def _own_and_lower(solver: LearnedSchedule | FreeTable) -> list[Start]:
    if isinstance(solver, LearnedSchedule) and not solver.time_scaling:
        return [_own(solver)]
    lower = copy.deepcopy(solver)
    with torch.no_grad():
        lower.log_time_scale.add_(math.log(LOWER_TIME_SCALE))
    return [_own(solver), _own(lower)]
