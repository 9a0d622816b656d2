"""Where a fit begins."""

import contextlib
import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from dyweight import Solver, SolverSet
from dyweight.between import Between, nearest

FEW = 4
"""Steps up to which a useless last call is spread at the start. Drafts for digits, shapes and photographs on karras and
normal of SD 1.5 then end at 0.2 to 1.0 of the error that they else have at 2 and 3 steps, at 0.5 to 1.7 (median 0.8) at
4, and from 7 on mostly above it."""


def start_of(solver: Solver, smallest: float = 0.0) -> Solver:
    """A new solver of this kind where gauss-newton begins. smallest: noise level that the model knows.

    Where the schedule ends there and then at 0, the last call has little left to find, and no step that the maps are
    trusted for leads far from it: the start's calls are spread as if the schedule had one more.
    """
    start = copy.deepcopy(solver).requires_grad_(False)
    start.set_start()
    levels = solver.sigmas
    if 1 < solver.steps <= FEW and float(levels[-1]) <= 0 and float(levels[-2]) <= smallest * (1 + 1e-6):
        with contextlib.suppress(ValueError):
            start.set_table(start.plan(_spread(levels)))
    return start


def _spread(levels: Tensor) -> Tensor:
    """Levels [n + 1] that end at 0, with as many steps on the way to the last one above 0, which is left out."""
    logs, steps = levels[:-1].log(), len(levels) - 1
    at = torch.arange(steps, dtype=logs.dtype) * ((steps - 1) / steps)
    below = at.long().clamp(max=steps - 2)
    return torch.cat([torch.lerp(logs[below], logs[below + 1], at - below).exp(), levels[-1:]])


def starts_from(solver: Solver, fitted: Sequence[Solver]) -> list[Solver]:
    """What solvers for other numbers of steps learned, carried over to this one; none where it can't be."""
    if not fitted or any(one.rows != one.steps for one in (solver, *fitted)):
        return []
    below, above = nearest(SolverSet(fitted), solver.steps)
    try:
        plan = Between(below, above, solver.sigmas).plan()
        return [copy.deepcopy(solver).requires_grad_(False).set_table(plan)]
    except ValueError:
        return []
