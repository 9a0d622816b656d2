"""The second table of a learned solver on other times, as `placement` moves the first."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .plan import Plan
from .solvers import Solver


def retimed_guidance(
    solver: Solver, own: Plan, first: int, scales: Sequence[float], forced_end: bool
) -> tuple[Tensor | None, tuple[int, ...]]:
    """(guidance [rows, rows], guided rows) for the rows of a plan from `first` on; (None, ()) without guidance.

    scales: of each row's time. Directions from before `first` are missing: their share is spread evenly over those at
    hand, and where a row at the beginning has none, the first row asks for its own. forced_end: the last row goes to
    the prediction itself, guided along the newest direction.
    """
    if own.guidance is None or solver.guided_at is None:
        return None, ()
    rows, divisors = len(scales), solver.divisors(own)
    guided = [j - first for j in own.guided if first <= j < first + rows]
    if first and bool(own.guidance[first].any()):
        guided = sorted({0, *guided})
    guidance = torch.zeros(rows, rows, dtype=torch.float64)
    here = torch.tensor(scales, dtype=torch.float64) * divisors[first : first + rows]
    for j, scale in enumerate(scales):
        at_hand = [k for k in guided if k <= j]
        if at_hand:
            moves = own.guidance[first + j] * divisors * scale
            row = moves[first : first + rows].clone()
            row[at_hand] += (moves.sum() - row[at_hand].sum()) / len(at_hand)
            guidance[j, at_hand] = (row / here)[at_hand]
    if forced_end and guided:
        guidance[-1] = 0
        guidance[-1, guided[-1]] = solver.guided_at - 1
    return (guidance, tuple(guided)) if guided else (None, ())
