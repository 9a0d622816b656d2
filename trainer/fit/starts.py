"""Where a fit begins."""

import copy
from collections.abc import Sequence

from dyweight import Solver, SolverSet
from dyweight.between import Between, nearest


def start_of(solver: Solver) -> Solver:
    """A new solver of this kind where gauss-newton begins."""
    start = copy.deepcopy(solver).requires_grad_(False)
    start.set_start()
    return start


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
