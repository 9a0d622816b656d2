"""What moves in a fit by Gauss-Newton: a solver's numbers as one vector."""

import copy
from abc import ABC, abstractmethod
from typing import Generic, TypeAlias, TypeVar

import torch
from torch import Tensor

from dyweight import DyWeight, FreeTable, LearnedSchedule, Plan

FewNumbers: TypeAlias = DyWeight | LearnedSchedule | FreeTable
"""The solvers without a network: a Jacobian by finite differences costs a rollout a number."""
S = TypeVar("S", bound=FewNumbers)

LARGEST_WEIGHT, LARGEST_LOG_SCALE = 1e4, 10.0
"""What is larger comes from a step that went astray, and would overflow on the way."""


class Parameters(ABC, Generic[S]):
    """A vector [count] float64 for the numbers of a solver."""

    solver: S
    first_touched: list[tuple[int, bool]]
    """For each parameter the first row that it touches, and whether it changes that row's network call."""

    @abstractmethod
    def read(self, solver: S) -> Tensor:
        """The numbers of a solver of this shape."""

    @abstractmethod
    def plan(self, vector: Tensor) -> Plan:
        """The table of these numbers; ValueError where they make none."""

    @abstractmethod
    def solver_of(self, vector: Tensor) -> S:
        """The solver's settings with these numbers; ValueError where they make none that a file may hold."""

    def __len__(self) -> int:
        return len(self.first_touched)

    def jacobian_calls(self, sides: int = 1) -> int:
        """Network calls of one pair's Jacobian by finite differences, with the rollout it starts from.

        sides: 1 where numbers are moved to one side, 2 to both.
        """
        return self.solver.network_calls + sum(self.column_calls(sides))

    def column_calls(self, sides: int = 1) -> list[int]:
        """Network calls of each column, for one pair."""
        rows = self.solver.network_calls + int(self.solver.analytic_first_step)
        return [sides * (rows - row - int(not changes_call)) for row, changes_call in self.first_touched]


class DyWeightParameters(Parameters[DyWeight]):
    """The used weights row by row, then the log of the used time scales.

    free: the table is parameterised with time shifting off, so that a weight moves its own row only. The same tables
    are reached, and `solver_of` turns the result into the solver's own weights; which of the two is better conditioned
    depends on the model. Without time scaling the two spans differ, and the solver's own weights are the parameters.
    """

    def __init__(self, solver: DyWeight, free: bool) -> None:
        self.solver = solver
        own = not free or not (solver.time_shifting and solver.time_scaling)
        self._twin = DyWeight(
            solver.sigmas,
            solver.order,
            solver.slope if own else "state",
            solver.analytic_first_step,
            time_shifting=solver.time_shifting and own,
            time_scaling=solver.time_scaling,
        ).requires_grad_(False)
        rows = torch.arange(solver.steps)
        self._used = torch.arange(solver.order) <= rows[:, None]
        self._scaled = (rows >= int(solver.analytic_first_step)) & solver.time_scaling
        self.first_touched = [(row, False) for row in self._used.nonzero()[:, 0].tolist()]
        self.first_touched += [(row, True) for row in self._scaled.nonzero()[:, 0].tolist()]

    def read(self, solver: DyWeight) -> Tensor:
        self._twin.set_table(solver.plan().detach())
        return torch.cat([self._twin.weights[self._used], self._twin.time_scale[self._scaled].log()])

    def plan(self, vector: Tensor) -> Plan:
        count = int(self._used.sum())
        if not bool((vector[:count].abs() < LARGEST_WEIGHT).all() and (vector[count:].abs() < LARGEST_LOG_SCALE).all()):
            raise ValueError(f"weights or time scales beyond any sampler's: {vector.tolist()}")
        with torch.no_grad():
            self._twin.weights[self._used] = vector[:count]
            self._twin.time_scale[self._scaled] = vector[count:].exp()
            return self._twin.plan()

    def solver_of(self, vector: Tensor) -> DyWeight:
        solver = copy.deepcopy(self.solver).requires_grad_(False).set_table(self.plan(vector))
        solver.plan()
        return solver


class OwnNumbers(Parameters[LearnedSchedule | FreeTable]):
    """The numbers as the solver holds them: logits, or gains row by row, then the logs of the time scales."""

    def __init__(self, solver: LearnedSchedule | FreeTable) -> None:
        self.solver = solver
        self._twin = copy.deepcopy(solver).requires_grad_(False)
        scaled = torch.ones_like(solver.log_time_scale, dtype=torch.bool)
        if isinstance(solver, LearnedSchedule):
            # A softmax: each logit moves all times.
            used = torch.ones_like(solver.logits, dtype=torch.bool)
            self.first_touched = [(0, False)] * solver.steps
            scaled &= solver.time_scaling
            self._names = ("logits", "log_time_scale")
        else:
            used = torch.ones_like(solver.gains, dtype=torch.bool).tril()
            self.first_touched = [(row, False) for row in used.nonzero()[:, 0].tolist()]
            self._names = ("gains", "log_time_scale")
        self.first_touched += [(row, True) for row in scaled.nonzero()[:, 0].tolist()]
        self._used = (used, scaled)

    def read(self, solver: LearnedSchedule | FreeTable) -> Tensor:
        numbers = zip(self._names, self._used, strict=True)
        return torch.cat([getattr(solver, name).detach()[used] for name, used in numbers])

    def plan(self, vector: Tensor) -> Plan:
        return self._set(self._twin, vector).plan()

    def solver_of(self, vector: Tensor) -> LearnedSchedule | FreeTable:
        solver = self._set(copy.deepcopy(self.solver).requires_grad_(False), vector)
        solver.plan()
        return solver

    @torch.no_grad()
    def _set(self, solver: LearnedSchedule | FreeTable, vector: Tensor) -> LearnedSchedule | FreeTable:
        parts = torch.split(vector, [int(used.sum()) for used in self._used])
        largest = (LARGEST_WEIGHT, LARGEST_LOG_SCALE)
        if not all(bool((part.abs() < most).all()) for part, most in zip(parts, largest, strict=True)):
            raise ValueError(f"numbers beyond any sampler's: {vector.tolist()}")
        for name, used, part in zip(self._names, self._used, parts, strict=True):
            getattr(solver, name)[used] = part
        return solver
