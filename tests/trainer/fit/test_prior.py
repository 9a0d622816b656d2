"""What a table pays for its distance from the start, and what that makes of a least-squares problem."""

import pytest
import torch
from torch import Tensor

from dyweight import DyWeight, FreeTable, LearnedSchedule, Solver, schedules
from trainer.fit.least_squares import LeastSquares
from trainer.fit.limits import Limits
from trainer.fit.prior import Prior
from trainer.fit.table import Numbers

SCHEDULE = schedules.polynomial(4)
SOLVERS: list[Solver] = [DyWeight(SCHEDULE, 3), FreeTable(SCHEDULE), LearnedSchedule(SCHEDULE, "heun")]
NAMES = ["dyweight", "free table", "two calls a step, with levels that repeat"]


def nothing_known(count: int) -> LeastSquares:
    """Of pairs that say nothing of the numbers."""
    none = torch.zeros(count, count, dtype=torch.float64)
    return LeastSquares(none, none[0], 0.0, torch.eye(count, dtype=torch.float64), 0.0)


@pytest.mark.parametrize("solver", SOLVERS, ids=NAMES)
def test_the_problem_has_the_gradient_and_the_curvature_of_what_a_table_pays(solver):
    numbers = Numbers(solver)
    vector = numbers.read(solver)
    prior = Prior(numbers.plan(vector), 0.5)
    assert prior(numbers.plan(vector)) == 0
    away = vector + 0.1 * torch.randn(vector.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    told = prior.added_to(nothing_known(len(away)), numbers.table(away))

    def paid(vector: Tensor) -> float:
        return prior(numbers.plan(vector))

    assert told.loss == pytest.approx(paid(away)) and told.loss > 0
    for direction in torch.eye(len(away), dtype=torch.float64):
        up, down = paid(away + 1e-4 * direction), paid(away - 1e-4 * direction)
        assert (up - down) / 2e-4 == pytest.approx(2 * float(told.gradient @ direction), rel=1e-4, abs=1e-6)


def test_a_step_of_the_euler_method_is_the_unit():
    """A row that steps twice as far pays the weight, whichever row it is and whatever the noise levels."""
    solver = FreeTable(SCHEDULE)
    plan = solver.plan().detach()
    levels = plan.sigmas
    euler = torch.diag((levels[1:] - levels[:-1]) / levels[:-1])
    for row in range(4):
        longer = plan.gains.clone()
        longer[row] += euler[row]
        assert Prior(plan, 0.5)(type(plan)(levels, plan.query_sigmas, longer)) == pytest.approx(0.5)


def test_numbers_that_the_pairs_do_not_tell_apart_share_what_they_tell():
    """Least squares alone would take any two whose sum is right."""
    solver = FreeTable(SCHEDULE)
    numbers = Numbers(solver)
    vector = numbers.read(solver)
    table = numbers.table(vector)
    together = table.gains[3, 2] + table.gains[3, 3]  # residuals that are alike
    squares = nothing_known(len(vector))
    squares = LeastSquares(1e3 * torch.outer(together, together), -1e3 * together, 1e3, squares.movement, 0.0)
    nowhere = Limits(torch.zeros(0, len(vector), dtype=torch.float64), torch.zeros(0, dtype=torch.float64))
    step = Prior(table.plan, 0.1).added_to(squares, table).step(1e6, nowhere)
    moved = numbers.plan(vector + step).gains - table.plan.gains
    levels = table.plan.sigmas
    assert float(moved[3, 2] + moved[3, 3]) == pytest.approx(1, rel=1e-2)
    assert float(moved[3, 2] / moved[3, 3]) == pytest.approx(float(levels[3] / levels[2]) ** 2, rel=1e-2)
