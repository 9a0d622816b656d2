"""A solver's numbers as one vector, and how the table moves with them."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from dyweight import DyWeight, FreeTable, LearnedSchedule, Plan

FewNumbers = DyWeight | LearnedSchedule | FreeTable
"""The solvers without a network."""


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


class Numbers:
    """The vector [count] float64 of what a fit moves in a solver."""

    def __init__(self, solver: FewNumbers) -> None:
        self._twin = copy.deepcopy(solver).requires_grad_(False)
        self._names = [name for name, p in solver.named_parameters() if p.requires_grad]

    def read(self, solver: FewNumbers) -> Tensor:
        named = dict(solver.named_parameters())
        return torch.cat([named[name].detach().flatten() for name in self._names])

    def solver_of(self, vector: Tensor) -> FewNumbers:
        """The solver with these numbers; a new one."""
        return self._set(copy.deepcopy(self._twin), vector)

    def plan(self, vector: Tensor) -> Plan:
        """The table of these numbers; ValueError where they make none."""
        return self._set(self._twin, vector).plan().detach()

    def table(self, vector: Tensor) -> Table:
        """The table and its Jacobian, by backward passes through `plan()`."""
        solver = self.solver_of(vector)
        moving = [p.requires_grad_() for name, p in solver.named_parameters() if name in self._names]
        plan = solver.plan()
        rows = plan.rows
        entries = torch.cat([plan.gains.flatten(), plan.query_sigmas.log(), plan.sigmas])
        each = torch.eye(len(entries), dtype=torch.float64)
        columns = torch.autograd.grad(entries, moving, each, is_grads_batched=True, materialize_grads=True)
        jacobian = torch.cat([column.flatten(1) for column in columns], 1)
        gains, log_queries, sigmas = torch.split(jacobian, [rows * rows, rows, rows + 1])
        if plan.analytic_first_step:
            log_queries[0] = 0
        return Table(plan.detach(), gains.reshape(rows, rows, -1), log_queries, sigmas)

    @torch.no_grad()
    def _set(self, solver: FewNumbers, vector: Tensor) -> FewNumbers:
        for name, parameter in solver.named_parameters():
            if name in self._names:
                count = parameter.numel()
                parameter.copy_(vector[:count].reshape(parameter.shape))
                vector = vector[count:]
        return solver
