"""Which rows of a solver run on the sigmas that arrive: the laws of docs/schedules.md."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
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


def running_away(order=3, slope="state", seed=0):
    """A solver whose first learned time comes near the second of FLOW, which makes a weight huge."""
    solver = solver_of(FLOW, order, seed, 0.2, slope=slope)
    times = (FLOW + FLOW.roll(-1)) / 2
    times[0], times[-1] = FLOW[0], 0
    times[1] = FLOW[2] + 1e-3
    wanted = times.diff() / (FLOW[1:] - times[:-1])
    solver.weights[:, 0] += wanted - solver.weights.sum(1)
    assert torch.allclose(solver.plan().sigmas, times, rtol=1e-9, atol=1e-12)
    return solver


def test_the_learned_times_are_carried_over_where_the_weights_would_run_away():
    """A time that comes near the next point of the schedule makes a weight huge: it is no longer worth its number."""
    solver, other = running_away(), FLOW.clone()
    other[2] *= 0.999
    literal = solver.plan(other).sigmas
    assert schedule_distance(literal[:-1], solver.plan().sigmas[:-1]) > 0.05
    placement = place(solver, other)
    assert placement.rule == "carried"
    assert schedule_distance(placement.plan.sigmas[:-1], solver.plan().sigmas[:-1]) < 0.002


@pytest.mark.parametrize("shift", [0.5, 1.0, 1.5, 6.0])
def test_noise_levels_that_fall_on_its_own_schedule_fall_on_any_other(shift):
    for seed in range(100):
        solver = solver_of(FLOW, seed=seed, spread=0.3)
        if (solver.plan().sigmas.diff() < 0).all():
            assert bool((place(solver, schedules.flow(6, shift)).plan.sigmas.diff() < 0).all()), seed


@given(st.floats(0.9, 1.1), st.integers(0, 100))
def test_a_carried_time_lies_as_far_between_the_sigmas_that_arrive_as_between_its_own(shift, seed):
    solver, arriving = running_away(seed=seed), schedules.flow(6, 3.0 * shift)
    placement = place(solver, arriving)
    assume(placement.rule == "carried")
    expected = np.interp(solver.plan().sigmas.numpy(), FLOW.flip(0).numpy(), arriving.flip(0).numpy())
    assert torch.allclose(placement.plan.sigmas, torch.from_numpy(expected), rtol=1e-9, atol=1e-12)


@st.composite
def moved(draw):
    """(solver, placement) where the rows run on other times: carried over, or a part of them from fresh noise."""
    order, slope, seed = draw(st.integers(1, 6)), draw(st.sampled_from(["state", "query"])), draw(st.integers(0, 100))
    solver = running_away(order, slope, seed)
    part = draw(st.integers(0, 4))
    placement = place(solver, FLOW[part:] if part else schedules.flow(6, 3.0 * draw(st.floats(1.01, 1.1))))
    assert (placement.rule, placement.first_step) == ("part" if part else "carried", part)
    return solver, placement


def divisors_of(solver, plan):
    return plan.sigmas[:-1] if solver.slope == "state" else plan.query_sigmas


@given(moved())
def test_moved_rows_sum_to_the_change_of_time(moved):
    """What a slope counts for is its gain times the level that it is divided by, on the times at hand."""
    solver, placement = moved
    plan = placement.plan
    assert torch.allclose((plan.gains * divisors_of(solver, plan)).sum(1), plan.sigmas.diff(), rtol=1e-9, atol=1e-12)


@given(moved())
def test_moved_rows_ask_the_network_as_far_from_their_state_as_was_learned(moved):
    solver, placement = moved
    plan, learned = placement.plan, solver.time_scale[placement.first_step :]
    assert torch.allclose(plan.query_sigmas / plan.sigmas[:-1], learned, rtol=1e-12)


@given(moved())
def test_where_the_slope_is_constant_moved_rows_go_along_it(moved):
    """x changes by the slope times the change of time, whatever the weights."""
    solver, placement = moved
    plan, slope = placement.plan, torch.tensor([[2.0, -0.5]], dtype=torch.float64)
    levels = iter(divisors_of(solver, plan))
    start = torch.ones(1, 2, dtype=torch.float64)
    end = sample(lambda x, sigma: x - slope * next(levels), start, plan)
    assert torch.allclose(end, start + slope * (plan.sigmas[-1] - plan.sigmas[0]), rtol=1e-9)


@given(st.integers(1, 6), st.sampled_from(["state", "query"]), st.integers(0, 100), st.integers(1, 4))
def test_fresh_noise_changes_the_unit_of_the_levels_only(order, slope, seed, first):
    """Gains have no unit: those of a part that continues at another level are the same."""
    solver = running_away(order, slope, seed)
    reached = float(solver.plan().sigmas[first])
    fresh, continuing = (place(solver, FLOW[first:], start).plan for start in (None, reached))
    unit = fresh.sigmas[0] / continuing.sigmas[0]
    assert abs(float(unit) - 1) > 0.01
    assert torch.allclose(fresh.sigmas, unit * continuing.sigmas, rtol=1e-12)
    assert torch.allclose(fresh.query_sigmas, unit * continuing.query_sigmas, rtol=1e-12)
    assert torch.allclose(fresh.gains, continuing.gains, rtol=1e-9, atol=1e-12)


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
    assert torch.equal(placement.plan.gains, handcrafted("ipndm", sigmas, 3 if steps > 6 else 2).gains)


@pytest.mark.parametrize(
    ("sigmas", "advice"),
    [
        ([0.0, 0.5, 1.0], "reverse the sigmas"),
        ([1.0, 0.5, 0.5, 0.0], "leave out the sigma that stands twice"),
        ([1.0, 0.0, 0.0], "leave out the sigma that stands twice"),
        ([1.0, 0.2, 0.5, 0.0], "sigmas must decrease"),
        ([1.0], "sigmas has shape"),
    ],
)
def test_sigmas_that_no_solver_can_run_come_with_what_to_do(sigmas, advice):
    with pytest.raises(ScheduleError, match=f"^{advice}"):
        place(solver_of(ETA), torch.tensor(sigmas))
    with pytest.raises(ValueError, match=f"^{advice}"):
        untrained_plan(torch.tensor(sigmas))


@pytest.mark.parametrize("steps", [1, 2, 5, 7, 30])
def test_another_number_of_steps_is_an_error_that_says_which_the_solver_is_for(steps):
    with pytest.raises(ScheduleError, match=rf"{steps} steps, but this solver is for 6: set steps to 6"):
        place(solver_of(ETA), schedules.polynomial(steps, 0.02, 15.0, rho=3.0))


@pytest.mark.parametrize("sigmas", [[1.0, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, math.nan], [1.0, -0.1]])
def test_sigmas_that_do_not_decrease_are_an_error_with_their_values(sigmas):
    with pytest.raises(ScheduleError, match="sigmas must decrease"):
        place(solver_of(ETA), torch.tensor(sigmas))


@pytest.mark.parametrize("steps", [1, 2, 3, 9])
def test_the_untrained_solver_takes_any_number_of_steps(steps):
    plan = untrained_plan(schedules.flow(steps))
    assert plan.network_calls == steps
    assert torch.isfinite(end(plan)).all()
