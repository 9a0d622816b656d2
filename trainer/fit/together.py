"""How the solvers of one set share their network calls, and the pairs that they all begin with."""

import math
from collections.abc import Sequence
from itertools import accumulate

from dyweight import Solver

from .budget import Budget, TooFewCallsError
from .probing import DIRECTIONS, TRIED
from .table import Numbers

OF_SINGLE_FITS = 0.58
"""The calls of a set, of those that fits of its members alone may make. They make less than they may, so that it stays
below 0.6 of what they make."""
STARTS = 2
"""Of a member, at most, which are compared on the first pairs."""
TRIALS = 5
"""What a member's share of the calls reckons with, beside the maps of each pair."""


class Shares:
    """The calls that are left for the fits of a set, divided by what a pair costs each of them."""

    def __init__(self, solvers: Sequence[Solver], calls: int, elements: int) -> None:
        """calls: for all fits and the teacher of their training pairs. elements: of a latent."""
        self.calls, self.spent = calls, 0
        tables = [Numbers(solver).table(Numbers(solver).read(solver)) for solver in solvers]
        self._maps = [table.probe_calls(min(DIRECTIONS, elements), 1, 1) + table.plan.network_calls for table in tables]
        self._each = [solver.network_calls for solver in solvers]
        weights = [maps + TRIALS * each for maps, each in zip(self._maps, self._each, strict=True)]
        self._parts = [w / rest for w, rest in zip(weights, [*accumulate(reversed(weights))][::-1], strict=True)]
        self.of_all = [w / sum(weights) for w in weights]
        """The part of the calls that each member may surely make."""

    def blocks(self, budget: Budget, batch: int, teacher_calls: int) -> int:
        """Blocks of pairs that all members begin with. Raises TooFewCallsError where the calls do not hold one."""
        each = batch * (teacher_calls + sum(self._maps))
        blocks = budget.first_blocks(0, each)
        if self.calls < blocks * each:
            begun = [
                batch * (blocks * maps + (STARTS + 1 + blocks) * n) + 2 * len(TRIED)
                for maps, n in zip(self._maps, self._each, strict=True)
            ]
            taken = blocks * batch * teacher_calls
            needed = taken + max(own / part for own, part in zip(begun, self.of_all, strict=True))
            raise TooFewCallsError(blocks * batch, math.ceil(needed) - self.calls)
        return blocks

    def next(self, member: int) -> int:
        """Calls for a member, after `spent` for those before it: what they left is the others'."""
        return int((self.calls - self.spent) * self._parts[member])
