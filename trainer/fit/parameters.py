"""What moves in a fit: a solver's numbers as one vector."""

import copy

import torch
from torch import Tensor

from dyweight import DyWeight, Plan

LARGEST_WEIGHT, LARGEST_LOG_SCALE = 1e4, 10.0
"""What is larger comes from a step that went astray, and would overflow on the way."""


class Parameters:
    """A vector [count] float64 for a DyWeight: the used weights row by row, then the log of the used time scales.

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
        self.first_touched: list[tuple[int, bool]] = [(row, False) for row in self._used.nonzero()[:, 0].tolist()]
        """For each parameter the first row that it touches, and whether it changes that row's network call."""
        self.first_touched += [(row, True) for row in self._scaled.nonzero()[:, 0].tolist()]

    def __len__(self) -> int:
        return len(self.first_touched)

    def jacobian_calls(self, sides: int = 1) -> int:
        """Network calls of one pair's Jacobian by finite differences, with the rollout it starts from.

        sides: 1 where numbers are moved to one side, 2 to both.
        """
        return self.solver.network_calls + sum(self.column_calls(sides))

    def column_calls(self, sides: int = 1) -> list[int]:
        """Network calls of each column, for one pair."""
        return [sides * (self.solver.steps - row - int(not changes_call)) for row, changes_call in self.first_touched]

    def read(self, solver: DyWeight) -> Tensor:
        """The numbers of a solver of this shape."""
        self._twin.set_table(solver.plan().detach())
        return torch.cat([self._twin.weights[self._used], self._twin.time_scale[self._scaled].log()])

    def solver_of(self, vector: Tensor) -> DyWeight:
        """The solver's settings with these numbers; ValueError where they make none that a file may hold."""
        solver = copy.deepcopy(self.solver).requires_grad_(False).set_table(self.plan(vector))
        solver.plan()
        return solver

    def plan(self, vector: Tensor) -> Plan:
        """The table of these numbers; ValueError where they make none."""
        count = int(self._used.sum())
        if not bool((vector[:count].abs() < LARGEST_WEIGHT).all() and (vector[count:].abs() < LARGEST_LOG_SCALE).all()):
            raise ValueError(f"weights or time scales beyond any sampler's: {vector.tolist()}")
        with torch.no_grad():
            self._twin.weights[self._used] = vector[:count]
            self._twin.time_scale[self._scaled] = vector[count:].exp()
            return self._twin.plan()
