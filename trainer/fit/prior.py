"""What speaks against a table far from that with which its fit began: few pairs do not tell all of its numbers apart.

Where two numbers do almost the same for the pairs at hand, least squares makes one large and the other the opposite,
and other pairs pay for it. Gains of a table are therefore taken as drawn around those of the start, as in ridge
regression or a maximum a posteriori estimate. What speaks against a distance is a part of the loss that is left: where
the pairs can be met exactly they are.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dyweight import Plan

from .least_squares import LeastSquares
from .table import Table

PART = 0.002
"""Of the loss that is left, for a row of the table as far from the start's as this is long."""


@dataclass(frozen=True, eq=False)
class Prior:
    """A penalty that grows with the square of each gain's distance from the start's."""

    start: Plan
    weight: float
    """in the unit of the loss"""

    def __call__(self, plan: Plan) -> float:
        """What a plan pays."""
        return self.weight * float(self._off(plan).square().sum())

    def added_to(self, squares: LeastSquares, table: Table) -> LeastSquares:
        """The problem around a table, with what it and its neighbours pay."""
        by, off = self._in_steps(table.gains).flatten(0, 1), self._off(table.plan)
        return replace(
            squares,
            curvature=squares.curvature + self.weight * by.T @ by,
            gradient=squares.gradient + self.weight * by.T @ off,
            loss=squares.loss + self(table.plan),
        )

    def _off(self, plan: Plan) -> Tensor:
        """[entries] how far each is from the start's."""
        return self._in_steps((plan.gains - self.start.gains)[..., None]).flatten()

    def _in_steps(self, gains: Tensor) -> Tensor:
        """[rows, rows, n] in steps of the start: a residual is as large as the noise level of its state."""
        levels = self.start.sigmas
        step = levels[:-1] - levels[1:]
        step = torch.where(step > 0, step, step.roll(1))  # a row that corrects the one before it leads no further
        return gains * (levels[None, :-1] / step[:, None])[..., None]
