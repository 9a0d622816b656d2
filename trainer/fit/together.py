"""How the solvers of one set share their network calls, and the pairs that they all begin with."""

from collections.abc import Sequence
from itertools import accumulate

from dyweight import Solver

from ..run.errors import TrainerError
from .budget import Budget
from .probing import DIRECTIONS
from .table import Numbers

OF_SINGLE_FITS = 0.58
"""The calls of a set, of those that fits of its members alone may make. They make less than they may, so that it stays
below 0.6 of what they make."""
TRIALS = 5
"""What a member's share of the calls reckons with, beside the maps of each pair."""


class Shares:
    """The calls that are left for the fits of a set, divided by what a pair costs each of them."""

    def __init__(self, solvers: Sequence[Solver], calls: int) -> None:
        """calls: for all fits and the teacher of their training pairs."""
        self.calls, self.spent = calls, 0
        tables = [Numbers(solver).table(Numbers(solver).read(solver)) for solver in solvers]
        self._maps = [table.probe_calls(DIRECTIONS, 1, 1) + table.plan.network_calls for table in tables]
        weights = [maps + TRIALS * solver.network_calls for maps, solver in zip(self._maps, solvers, strict=True)]
        self._parts = [w / rest for w, rest in zip(weights, [*accumulate(reversed(weights))][::-1], strict=True)]

    def blocks(self, budget: Budget, batch: int, teacher_calls: int) -> int:
        """Blocks of pairs that all members begin with. Raises TrainerError where the calls do not hold one."""
        each = batch * (teacher_calls + sum(self._maps))
        if self.calls < each:
            raise TrainerError(
                f"{self.calls} network calls do not hold {batch} pairs at {each // batch} calls each: give more "
                "--calls or a smaller --batch"
            )
        return budget.first_blocks(0, each)

    def next(self, member: int) -> int:
        """Calls for a member, after `spent` for those before it: what they left is the others'."""
        return int((self.calls - self.spent) * self._parts[member])
