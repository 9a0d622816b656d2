"""What the network may be asked at, and what that means for a step of a table's numbers."""

import contextlib
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dyweight import Plan

from ..run.errors import TrainerError
from ..run.network import Network
from .table import Table

LEAST = 0.5
"""Of the smallest noise level of the model: those of the states, whose residuals are divided by them, stay above it."""
LOWEST = 1e-3
"""A step leaves a state's noise level below the one before it by at least this part of it, where they differ."""


@dataclass(frozen=True)
class Limits:
    """constraints @ step <= bounds: what the network is asked at stays in its range, and noise levels neither rise nor
    vanish."""

    constraints: Tensor
    """[n, count]"""
    bounds: Tensor
    """[n], 0 or above"""


class SigmaRange(NamedTuple):
    """The noise levels that a model knows."""

    smallest: float
    """above 0"""
    largest: float

    @classmethod
    def of(cls, network: Network, sigmas: Tensor) -> "SigmaRange":
        """Those that the checkpoint's schedules reach, where it has them for so many steps. sigmas: one of them."""
        levels = [sigmas]
        for steps in (100, 1000):
            with contextlib.suppress(TrainerError, ValueError, IndexError, RuntimeError):
                levels.append(network.checkpoint.schedule(steps).double())
        known = torch.cat(levels)
        return cls(float(known[known > 0].min()), float(sigmas[0]))

    def holds(self, plan: Plan) -> bool:
        """Whether a table asks within the range, and its states' levels never rise."""
        queries, levels = plan.query_sigmas[int(plan.analytic_first_step) :], plan.sigmas
        asked = (queries <= self.largest * (1 + 1e-9)) & (queries >= self.smallest * (1 - 1e-9))
        return bool(asked.all() and (levels[1:] <= levels[:-1]).all())

    def limits(self, table: Table) -> Limits:
        """The same for a step from a table, linear in its numbers."""
        queries, levels = table.plan.query_sigmas.log()[table.first :], table.plan.sigmas
        by, down = table.log_queries[table.first :], table.sigmas[1:] - table.sigmas[:-1]
        constraints = torch.cat([by, -by, down, -table.sigmas[:-1]])
        room = levels[:-1] - levels[1:] - LOWEST * levels[:-1].abs()
        above = levels[:-1] - LEAST * self.smallest
        bounds = torch.cat([math.log(self.largest) - queries, queries - math.log(self.smallest), room, above])
        moves = constraints.abs().amax(1) > 0
        return Limits(constraints[moves], bounds[moves].clamp_min(0))
