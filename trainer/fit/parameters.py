"""What moves in a fit by Gauss-Newton: a solver's numbers as one vector."""

import copy
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import torch
from torch import Tensor

from dyweight import DyWeight, Plan, Solver

S = TypeVar("S", bound=Solver)

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


class OwnNumbers(Parameters[Solver]):
    """The numbers as the solver holds them, those that its table depends on."""

    def __init__(self, solver: Solver) -> None:
        self.solver = solver
        self._twin = copy.deepcopy(solver).requires_grad_(False)
        first, changes_call = _first_rows(solver)
        self._used = first < solver.rows
        self.first_touched = list(zip(first[self._used].tolist(), changes_call[self._used].tolist(), strict=True))

    def read(self, solver: Solver) -> Tensor:
        return torch.cat([number.detach().flatten() for number in solver.numbers()])[self._used]

    def plan(self, vector: Tensor) -> Plan:
        plan = self._set(self._twin, vector).plan()
        if not bool(((plan.query_sigmas / plan.sigmas[:-1]).log().abs() < LARGEST_LOG_SCALE).all()):
            raise ValueError(f"time scales beyond any sampler's: {vector.tolist()}")
        return plan

    def solver_of(self, vector: Tensor) -> Solver:
        self.plan(vector)
        return self._set(copy.deepcopy(self.solver).requires_grad_(False), vector)

    @torch.no_grad()
    def _set(self, solver: Solver, vector: Tensor) -> Solver:
        if not bool((vector.abs() < LARGEST_WEIGHT).all()):
            raise ValueError(f"numbers beyond any sampler's: {vector.tolist()}")
        values = torch.cat([number.flatten() for number in solver.numbers()])
        values[self._used] = vector
        parts = torch.split(values, [number.numel() for number in solver.numbers()])
        for number, value in zip(solver.numbers(), parts, strict=True):
            number.copy_(value.reshape(number.shape))
        return solver


@torch.enable_grad()
def _first_rows(solver: Solver) -> tuple[Tensor, Tensor]:
    """[count] the first row that each number changes, the number of rows where none, and whether it changes its call.

    From the derivatives of the table along random directions, which are 0 only where all of them are.
    """
    twin = copy.deepcopy(solver).requires_grad_(True)
    numbers, plan = twin.numbers(), twin.plan()
    generator = torch.Generator().manual_seed(0)

    def touched(values: Tensor) -> Tensor:
        along = torch.randn(values.shape, generator=generator, dtype=torch.float64)
        slopes = torch.autograd.grad((values * along).sum(), numbers, retain_graph=True, materialize_grads=True)
        return torch.cat([slope.flatten() for slope in slopes]) != 0

    gains = torch.stack([touched(row) for row in plan.gains])
    calls = torch.stack([touched(query) for query in plan.query_sigmas])
    rows = torch.arange(solver.rows)[:, None].expand_as(gains).masked_fill(~(gains | calls), solver.rows)
    first = rows.amin(0)
    padded = torch.cat([calls, torch.zeros_like(calls[:1])])
    return first, padded.gather(0, first[None])[0]
