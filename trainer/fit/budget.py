"""How many network calls a fit may take, and what follows from them."""

import math
from dataclasses import dataclass
from typing import Literal

from ..run.errors import TrainerError

Effort = Literal["draft", "normal", "thorough"]

DRAFT = {3: 1_500, 5: 1_500, 8: 3_000, 12: 4_500}
"""Calls of a draft by network calls a sample; between them a straight line, beyond them 375 a call."""
TIMES = {"draft": 1, "normal": 4, "thorough": 12}
FIRST_PART = {"draft": 0.7, "normal": 1 / 4, "thorough": 1 / 8}
"""The part of the calls that the first pairs may take, with their endpoints and maps."""
JUDGING_PAIRS = {"draft": 4, "normal": 8, "thorough": 16}
TEACHER_STEPS, TEACHER_TIMES = 24, 4
DOUBLINGS = {"draft": 1, "normal": 1, "thorough": 2}
"""How many times the teacher's steps may double."""


class TooFewCallsError(TrainerError):
    """A budget that does not hold the pairs to begin with."""

    def __init__(self, pairs: int, missing: int) -> None:
        """missing: calls that the budget would need besides."""
        super().__init__(f"{pairs} pairs need {missing} network calls more")
        self.pairs, self.missing = pairs, missing


@dataclass(frozen=True)
class Budget:
    calls: int
    """of the fit itself"""
    first_part: float
    """of the calls, for the pairs it begins with"""
    fixed_blocks: int | None = None
    """blocks of pairs to begin with whatever the calls"""
    fewest_blocks: int = 1

    def first_blocks(self, spent: int, each: int, there: int = 0, fresh: int = 0) -> int:
        """Blocks of pairs to begin with. each: calls for a block, fresh: more calls beyond those that are there."""
        if self.fixed_blocks is not None:
            return self.fixed_blocks

        def held(part: float) -> int:
            calls = int((self.calls - spent) * part)
            return calls // each if calls <= there * each else (calls + there * fresh) // (each + fresh)

        return max(1, min(max(self.fewest_blocks, held(self.first_part)), held(0.8)))


def calls_of(effort: Effort, network_calls: int) -> int:
    """The budget of an effort in network calls, all included, for a solver of so many calls a sample."""
    known = sorted(DRAFT)
    if network_calls <= known[0]:
        draft = float(DRAFT[known[0]])
    elif network_calls >= known[-1]:
        draft = DRAFT[known[-1]] * network_calls / known[-1]
    else:
        after = next(n for n in known if n >= network_calls)
        before = max(n for n in known if n < network_calls)
        share = (network_calls - before) / (after - before)
        draft = DRAFT[before] + share * (DRAFT[after] - DRAFT[before])
    return TIMES[effort] * math.ceil(draft)


def teacher_steps(steps: int) -> int:
    """Steps of the teacher to begin with: its error must be small beside that of the fitted solver."""
    return max(TEACHER_STEPS, TEACHER_TIMES * steps)
