"""What is the same for all learned solvers."""

import pytest
import torch

from dyweight import (
    DyWeight,
    FreeTable,
    Indis,
    InstanceDyWeight,
    LearnedSchedule,
    SolverFile,
    load_solver,
    sample,
    save_solver,
    schedules,
)
from dyweight.solvers import FAMILIES

SIGMAS = schedules.polynomial(4, 0.03, 15.0)
SHAPE = (2, 3, 3)
SOLVERS = {
    "dyweight": lambda sigmas: DyWeight(sigmas, 2),
    "indis": lambda sigmas: Indis(sigmas, SHAPE, 4, "heun"),
    "instance-dyweight": lambda sigmas: InstanceDyWeight(DyWeight(sigmas, 2, "query"), SHAPE, 4),
    "learned-schedule": lambda sigmas: LearnedSchedule(sigmas, "unipc", 2),
    "free-table": FreeTable,
}
each_family = pytest.mark.parametrize("family", SOLVERS)


def test_every_family_is_tested_here():
    assert set(SOLVERS) == set(FAMILIES) and all(cls.family == name for name, cls in FAMILIES.items())


@each_family
def test_a_table_has_the_rows_that_the_solver_says(family):
    solver = SOLVERS[family](SIGMAS)
    plan = solver.plan()
    assert plan.rows == solver.rows and plan.network_calls == solver.network_calls == sum(solver.asked())
    assert solver.steps == 4 and solver.sigmas.dtype == torch.float64


@each_family
def test_the_numbers_move_the_table_and_nothing_else_does(family):
    solver = SOLVERS[family](SIGMAS)
    noise = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0)).double() * SIGMAS[0]
    plan = solver.plan(noise=noise, condition=torch.ones(3, 4))
    end = sample(lambda x, sigma: torch.sin(x) * sigma.reshape(-1, 1, 1, 1), noise, plan)
    gradients = torch.autograd.grad(end.square().sum(), solver.numbers(), allow_unused=True)
    reached = [gradient is not None and bool(gradient.any()) for gradient in gradients]
    # An untrained phi says nothing, so only its last layer moves the table at first.
    assert reached[-1] and (solver.reads_samples or all(reached))
    known = {id(number) for number in solver.numbers()}
    assert all(id(parameter) in known or not parameter.requires_grad for parameter in solver.parameters())


@each_family
def test_the_network_is_asked_lower_by_the_factor(family):
    solver = SOLVERS[family](SIGMAS).requires_grad_(False)
    before = solver.plan()
    solver.lower_time(0.9)
    factor = 1.0 if family == "instance-dyweight" else 0.9
    torch.testing.assert_close(solver.plan().query_sigmas, factor * before.query_sigmas, rtol=1e-6, atol=0)
    torch.testing.assert_close(solver.plan().sigmas, before.sigmas)


@each_family
def test_a_fit_can_begin_with_it_and_guidance_leaves_it_alone_where_it_has_none(family):
    solver = SOLVERS[family](SIGMAS).requires_grad_(False)
    before = solver.plan()
    for same in (solver.guiding(()), solver.tie_guidance()):
        assert torch.equal(same.plan().gains, before.gains) and not same.guided
    if family != "dyweight":
        with pytest.raises(ValueError, match=f"the family {family} can't be set to a table"):
            solver.set_table(before)
    solver.set_start()
    factor = 1.0 if family == "instance-dyweight" else 0.9
    torch.testing.assert_close(solver.plan().query_sigmas[..., 0], factor * before.query_sigmas[..., 0])


@each_family
def test_slopes_times_divisors_are_residuals(family):
    """The weights of a row add up to its step in time: the law of every solver that has not been moved."""
    solver = SOLVERS[family](SIGMAS)
    plan = solver.plan().detach()
    if family != "indis":  # the second row of a step of two calls begins at the step's begin
        torch.testing.assert_close((plan.gains * solver.divisors(plan)).sum(1), plan.sigmas.diff())


@pytest.mark.parametrize(("base", "order", "expected"), [("ipndm", None, 4), ("ipndm", 2, 2), ("dpmpp_2m", None, 2)])
def test_order_is_that_of_the_method(base, order, expected, tmp_path):
    for solver in (LearnedSchedule(SIGMAS, base, order), Indis(SIGMAS, SHAPE, 0, base, order)):
        assert solver.order == solver.settings()["order"] == expected
        save_solver(solver, tmp_path / "a", {})
        assert load_solver(tmp_path / "a").order == expected


@pytest.mark.parametrize("family", ["indis", "learned-schedule"])
def test_a_file_at_its_limit_of_steps_is_read_and_one_beyond_is_refused(family):
    limit = FAMILIES[family].most_steps
    FAMILIES[family].shapes(SOLVERS[family](schedules.flow(limit)).settings())
    with pytest.raises(ValueError, match=f"has 101 steps: a solver of the family {family} has 100 at most"):
        SOLVERS[family](schedules.flow(limit + 1))


def test_only_a_dyweight_is_corrected():
    with pytest.raises(ValueError, match="the family free-table can't be corrected"):
        InstanceDyWeight(FreeTable(SIGMAS), SHAPE)


def test_a_solver_without_a_file_is_named_by_what_it_is():
    assert SolverFile(DyWeight(SIGMAS), {}).name == "dyweight for 4 steps"
