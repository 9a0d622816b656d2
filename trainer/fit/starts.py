"""Where a fit begins: the problem has several valleys, and which is the deepest differs by model."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dyweight import DyWeight, Solver
from dyweight.solvers.dyweight import Initial

from .parameters import DyWeightParameters, OwnNumbers, Parameters

LOWER_TIME_SCALE = 0.9
"""Asking the network a little below the noise level of the state opens a valley of its own, often the deeper one."""


@dataclass(frozen=True)
class Start:
    """A parameterisation and where in it to begin."""

    parameters: Parameters[Any]
    vector: Tensor
    """[count] float64"""


def as_it_is(solver: Solver) -> Start:
    """The solver's own numbers."""
    own, _ = _OF_FAMILY.get(solver.family, (_own, None))
    return own(solver)


def worth_exploring(solver: Solver) -> list[Start]:
    """Starts that between them led to the best valley on the models of docs/fitting.md.

    Other families than DyWeight begin as they are, and asked at LOWER_TIME_SCALE of each noise level.
    """
    _, several = _OF_FAMILY.get(solver.family, (None, _own_and_lower))
    return several(solver)


def _dyweights(solver: DyWeight) -> list[Start]:
    first = int(solver.analytic_first_step)
    return [
        _start(solver, _untrained(solver, "adams-bashforth", lowered=slice(first, first + 1)), free=True),
        _start(solver, _untrained(solver, "adams-bashforth", lowered=slice(first, None)), free=False),
        _start(solver, _untrained(solver, "euler", lowered=slice(first, None)), free=True),
    ]


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


def _own(solver: Solver) -> Start:
    parameters = OwnNumbers(solver)
    return Start(parameters, parameters.read(solver))


def _own_and_lower(solver: Solver) -> list[Start]:
    lower = copy.deepcopy(solver)
    lower.lower_time(LOWER_TIME_SCALE)
    starts = [_own(solver), _own(lower)]
    return starts[: 1 + int(not torch.equal(starts[0].vector, starts[1].vector))]


_OF_FAMILY: dict[str, tuple[Callable[[Any], Start], Callable[[Any], list[Start]]]] = {
    DyWeight.family: (lambda solver: _start(solver, solver, free=True), _dyweights)
}
"""Family -> `as_it_is` and `worth_exploring` of those that do better than by their own numbers."""
