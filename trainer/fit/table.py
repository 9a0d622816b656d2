"""A solver's numbers as one vector, and how its table moves with them."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from dyweight import Plan, Solver


@dataclass(frozen=True, eq=False)
class Table:
    """A plan and its derivatives by `count` numbers, float64."""

    plan: Plan
    gains: Tensor
    """[rows, rows, count]"""
    log_queries: Tensor
    """[rows, count] of the logarithm of each query sigma; 0 where an analytic first step asks nothing."""
    sigmas: Tensor
    """[rows + 1, count]"""
    guidance: Tensor | None = None
    """[rows, rows, count] of the second table, None without"""

    @property
    def first(self) -> int:
        """The first row that asks the network."""
        return int(self.plan.analytic_first_step)

    def moving(self, row: int) -> int:
        """How many numbers move the state of a row."""
        return int(self._moving(row).sum())

    def of_state(self, row: int) -> "Table":
        """With only the numbers that move the state of a row."""
        moving, guidance = self._moving(row), None if self.guidance is None else self.guidance[..., self._moving(row)]
        by = self.gains[..., moving], self.log_queries[:, moving], self.sigmas[:, moving]
        return Table(self.plan, *by, guidance)

    def _moving(self, row: int) -> Tensor:
        """[count] whether a number moves the state of a row."""
        moved = (self.gains[:row] != 0).any(0).any(0) | (self.log_queries[:row] != 0).any(0)
        if self.guidance is not None:
            moved |= (self.guidance[:row] != 0).any(0).any(0)
        return moved

    def probe_calls(self, directions: int, state_sides: int, sigma_sides: int) -> int:
        """Network calls, at most, for the maps of one pair; a guided row takes each twice."""
        asked = range(self.first, self.plan.rows)
        calls = {row: sigma_sides + state_sides * min(directions, self.moving(row)) for row in asked}
        return sum(calls.values()) + sum(calls[row] for row in self.plan.guided)


class Numbers:
    """The vector [count] float64 of what a fit moves in a solver whose table all samples share."""

    def __init__(self, solver: Solver) -> None:
        self._twin = copy.deepcopy(solver).requires_grad_(True)
        self._last: tuple[Tensor, Table] | None = None

    def read(self, solver: Solver) -> Tensor:
        """The numbers of a solver of this kind."""
        return torch.cat([p.detach().flatten() for p in solver.numbers()])

    def solver_of(self, vector: Tensor) -> Solver:
        """A new solver with these numbers."""
        return copy.deepcopy(self._with(vector))

    def _with(self, vector: Tensor) -> Solver:
        """The twin with these numbers, until the next ones; each in memory of its own, which a plan may show."""
        for parameter in self._twin.numbers():
            parameter.data = vector[: parameter.numel()].reshape(parameter.shape).clone()
            vector = vector[parameter.numel() :]
        return self._twin

    def plan(self, vector: Tensor) -> Plan:
        """The table of these numbers; ValueError where they make none."""
        with torch.no_grad():
            return self._with(vector).plan()

    def asking_within(self, vector: Tensor, smallest: float, largest: float) -> Tensor:
        """The same numbers, with the network asked no further out than this, as far as the time scale can see to it."""
        with torch.no_grad():
            solver = self._with(vector)
            queries = solver.plan().query_sigmas
            solver.lower_time(queries.clamp(smallest, largest) / queries)
            return self.read(solver)

    def table(self, vector: Tensor) -> Table:
        """The table and its Jacobian; ValueError where there is none. The last one is kept."""
        if self._last is None or not torch.equal(vector, self._last[0]):
            self._last = vector.clone(), self._differentiated(vector)
        return self._last[1]

    def _differentiated(self, vector: Tensor) -> Table:
        """By one backward pass through `plan()`."""
        solver = self._with(vector)
        with torch.enable_grad():
            plan = solver.plan()
            rows = plan.rows
            parts = [plan.gains.flatten(), plan.query_sigmas.log(), plan.sigmas]
            entries = torch.cat(parts if plan.guidance is None else [*parts, plan.guidance.flatten()])
        each = torch.eye(len(entries), dtype=torch.float64)
        columns = torch.autograd.grad(entries, solver.numbers(), each, is_grads_batched=True, materialize_grads=True)
        jacobian = torch.cat([column.flatten(1) for column in columns], 1)
        squares = [] if plan.guidance is None else [rows * rows]
        gains, log_queries, sigmas, *guidance = torch.split(jacobian, [rows * rows, rows, rows + 1, *squares])
        if plan.analytic_first_step:
            log_queries = torch.cat([torch.zeros_like(log_queries[:1]), log_queries[1:]])
        second = guidance[0].reshape(rows, rows, -1) if guidance else None
        return Table(plan.detach(), gains.reshape(rows, rows, -1), log_queries, sigmas, second)
