"""Which rows of a solver run on the sigmas that arrive: the laws of docs/schedules.md."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dyweight import DyWeight, sample, schedules
from dyweight.baselines import plan as handcrafted
from dyweight.placement import ScheduleError, place, schedule_distance, untrained_plan


def denoise(x, sigma):
    """Of data with mean 1 and variance 1/4, exactly."""
    s = sigma.reshape(-1, 1)
    return (0.25 * x + s**2) / (0.25 + s**2)


def solver_of(sigmas, order=3, seed=0, spread=0.05, **options):
    solver = DyWeight(sigmas, order, **options).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    used = torch.ones_like(solver.weights).tril() > 0
    solver.weights += spread * torch.randn(solver.weights.shape, generator=generator, dtype=torch.float64) * used
    solver.time_scale += spread / 2 * torch.randn(solver.steps, generator=generator, dtype=torch.float64)
    return solver


def end(plan, x=None):
    noise = torch.linspace(-20, 20, 8, dtype=torch.float64).reshape(4, 2) if x is None else x
    return sample(denoise, noise, plan)


ETA = schedules.polynomial(6, 0.03, 15.0)
FLOW = schedules.flow(6, 3.0)


@pytest.mark.parametrize("own", [ETA, FLOW], ids=["polynomial", "flow"])
def test_its_own_schedule_gives_its_own_plan(own):
    solver = solver_of(own)
    placement = place(solver, own.float())
    assert placement.rule == "whole"
    assert torch.allclose(placement.plan.gains, solver.plan().gains, rtol=1e-4, atol=1e-6)


def test_another_schedule_of_as_many_steps_becomes_the_base_schedule():
    solver, other = solver_of(ETA), schedules.polynomial(6, 0.03, 15.0, rho=6.0)
    placement = place(solver, other)
    assert placement.rule == "whole"
    assert torch.equal(placement.plan.gains, solver.plan(other).gains)
    assert placement.distance == pytest.approx(schedule_distance(other, ETA))


def test_the_learned_times_are_carried_over_where_the_weights_would_run_away():
    """A time that comes near the next point of the schedule makes a weight huge: it is no longer worth its number."""
    solver = DyWeight(FLOW, 1, initial="euler").requires_grad_(False)
    touching = float(FLOW[2]) + 1e-3
    solver.weights[0] = (touching - FLOW[0]) / (FLOW[1] - FLOW[0])
    solver.weights[1] = (FLOW[3] - touching) / (FLOW[2] - touching)
    other = FLOW.clone()
    other[2] *= 0.999
    literal = solver.plan(other).sigmas
    assert abs(float((literal[2] / FLOW[3]).log())) > 0.1
    placement = place(solver, other)
    assert placement.rule == "carried"
    assert schedule_distance(placement.plan.sigmas[:-1], solver.plan().sigmas[:-1]) < 0.002


@given(st.integers(1, 6), st.floats(0.9, 1.1), st.integers(0, 100))
def test_a_carried_plan_is_exact_where_the_slope_is_constant(order, shift, seed):
    """x moves by the slope times the change of time, whatever the weights: the rows keep that law."""
    solver = solver_of(FLOW, order, seed, spread=0.02)
    plan = place(solver, schedules.flow(6, 3.0 * shift)).plan
    x = torch.full((1, 1), 2.0, dtype=torch.float64)
    moved = sample(lambda x, sigma: x, x, plan)
    assert torch.equal(moved, x)


@pytest.mark.parametrize("first", range(1, 6))
def test_two_parts_of_a_solver_without_history_or_shift_are_the_whole(first):
    solver = DyWeight(ETA, 1, initial="euler").requires_grad_(False)
    before = place(solver, ETA[: first + 1])
    after = place(solver, ETA[first:], start=float(before.plan.sigmas[-1]))
    assert (before.rule, after.rule, after.first_step) == ("part", "part", first)
    assert torch.allclose(end(after.plan, end(before.plan)), end(solver.plan()), rtol=1e-12)


@pytest.mark.parametrize("first", range(1, 6))
def test_a_part_that_continues_starts_where_time_shifting_had_come_and_keeps_its_times(first):
    solver = solver_of(ETA)
    plan = place(solver, ETA[first:], start=float(solver.plan().sigmas[first])).plan
    assert torch.allclose(plan.sigmas, solver.plan().sigmas[first:], rtol=1e-12)
    assert torch.allclose(plan.query_sigmas, solver.plan().query_sigmas[first:], rtol=1e-12)


@pytest.mark.parametrize("slope", ["state", "query"])
@pytest.mark.parametrize("first", range(1, 6))
def test_rows_without_history_keep_the_learned_row_sum(first, slope):
    solver = solver_of(ETA, slope=slope)
    whole = solver.plan()
    part = place(solver, ETA[first:], start=float(whole.sigmas[first])).plan

    def sums(plan):
        divisors = plan.sigmas[:-1] if slope == "state" else plan.query_sigmas
        return (plan.gains * divisors).sum(1)

    assert torch.allclose(sums(part), sums(whole)[first:], rtol=1e-10)


@pytest.mark.parametrize("first", range(1, 6))
def test_fresh_noise_scales_the_learned_times_to_its_own_level(first):
    solver = solver_of(ETA)
    placement = place(solver, ETA[first:])
    learned = solver.plan().sigmas[first:]
    assert float(placement.plan.sigmas[0]) == pytest.approx(float(ETA[first]))
    assert torch.allclose(placement.plan.sigmas / learned, ETA[first] / learned[0], rtol=1e-12)


def test_a_part_that_is_made_to_end_at_0_ends_on_the_prediction():
    solver = solver_of(ETA)
    forced = torch.cat([ETA[:3], torch.zeros(1, dtype=torch.float64)])
    placement = place(solver, forced)
    seen = []
    final = sample(
        denoise, torch.full((1, 2), 9.0, dtype=torch.float64), placement.plan, lambda c: seen.append(c.denoised)
    )
    assert (placement.rule, len(seen)) == ("part", 3)
    assert torch.allclose(final, seen[-1], rtol=1e-12)


def test_the_analytic_first_step_belongs_to_the_first_row_only():
    solver = solver_of(ETA, analytic_first_step=True)
    assert place(solver, ETA[:4]).plan.analytic_first_step
    assert not place(solver, ETA[2:]).plan.analytic_first_step


@pytest.mark.parametrize("steps", [5, 6, 12])
def test_a_partial_denoise_off_the_schedule_runs_the_untrained_solver(steps):
    sigmas = schedules.polynomial(steps, 0.02, 5.0)
    placement = place(solver_of(ETA), sigmas)
    assert placement.rule == "untrained"
    assert torch.equal(placement.plan.gains, handcrafted("ipndm_v", sigmas, 3).gains)


@pytest.mark.parametrize("steps", [1, 2, 5, 7, 30])
def test_another_number_of_steps_is_an_error_that_says_which_the_solver_is_for(steps):
    with pytest.raises(ScheduleError, match=rf"{steps} steps, but this solver is for 6: set steps to 6"):
        place(solver_of(ETA), schedules.polynomial(steps, 0.02, 15.0, rho=3.0))


@pytest.mark.parametrize("sigmas", [[1.0], [1.0, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, math.nan], [1.0, -0.1]])
def test_sigmas_that_do_not_decrease_are_an_error_with_their_values(sigmas):
    with pytest.raises(ScheduleError, match="sigmas must decrease"):
        place(solver_of(ETA), torch.tensor(sigmas))


@pytest.mark.parametrize("steps", [1, 2, 3, 9])
def test_the_untrained_solver_takes_any_number_of_steps(steps):
    plan = untrained_plan(schedules.flow(steps))
    assert plan.network_calls == steps
    assert torch.isfinite(end(plan)).all()
