"""Which solver of a set runs on the sigmas that arrive, and what runs between two of them."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from dyweight import DyWeight, FreeTable, LearnedSchedule, SolverSet, sample, schedules
from dyweight.between import ORDER, TOO_FAR, Between, between, nearest
from dyweight.placement import place, untrained_plan, without_time_scaling

STEPS = (3, 4, 6, 8)
SCHEDULES = {
    "flow": lambda steps: schedules.flow(steps, 3.0),
    "high shift": lambda steps: schedules.flow(steps, 12.0),
    "polynomial": lambda steps: schedules.polynomial(steps, 0.03, 15.0),
    "to 0": lambda steps: torch.cat([schedules.polynomial(steps - 1, 0.03, 15.0), torch.zeros(1)]),
}
each_schedule = pytest.mark.parametrize("kind", SCHEDULES)
fields = ("sigmas", "query_sigmas", "gains")


def learned(sigmas, seed=0, spread=0.03, **options):
    solver = DyWeight(sigmas, **options).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    used = torch.ones_like(solver.weights).tril() > 0
    solver.weights += spread * torch.randn(solver.weights.shape, generator=generator, dtype=torch.float64) * used
    solver.time_scale += spread / 2 * torch.randn(solver.steps, generator=generator, dtype=torch.float64)
    return solver


def set_of(kind, steps=STEPS, **options):
    return SolverSet(learned(SCHEDULES[kind](n), n, **options) for n in steps)


def equal(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in fields)


@pytest.mark.parametrize("steps", STEPS)
@each_schedule
def test_the_number_of_sigmas_chooses_the_solver(kind, steps):
    members = set_of(kind)
    placement = place(members, SCHEDULES[kind](steps).float())
    assert (placement.rule, placement.steps) == ("whole", steps)
    assert equal(placement.plan, place(members.member(steps), SCHEDULES[kind](steps).float()).plan)


@pytest.mark.parametrize("steps", STEPS)
@each_schedule
def test_a_set_runs_every_part_of_a_solver_as_the_solver_alone_does(kind, steps):
    """Also where the part has as many steps as another solver of the set, or an end that is forced to 0."""
    members, sigmas = set_of(kind), SCHEDULES[kind](steps).float()
    for first in range(steps):
        for last in range(first + 1, steps + 1):
            part = sigmas[first : last + 1]
            forced = torch.cat([part[:-1], torch.zeros(1)])
            for arriving in (part, forced) if last - first > 1 else (part,):
                if kind == "to 0" and first == steps - 1:
                    continue  # the last step is the same in all
                alone, found = place(members.member(steps), arriving), place(members, arriving)
                assert (found.steps, found.rule, found.first_step) == (steps, alone.rule, alone.first_step)
                assert equal(found.plan, alone.plan)


@pytest.mark.parametrize("steps", STEPS)
def test_a_last_step_to_0_is_that_of_the_solver_that_ends_there(steps):
    """The last step of a coarse schedule may begin where one in the middle of a finer one does."""
    members = SolverSet(learned(schedules.flow(n), n) for n in (2, 4, 8))
    found = place(members, torch.tensor([0.5, 0.0]))
    assert (found.steps, found.first_step) == (2, 1)
    found = place(members, torch.tensor([0.5, 0.25, 0.0]))
    assert (found.steps, found.first_step) == (4, 2)


@pytest.mark.parametrize("steps", STEPS)
def test_as_many_sigmas_of_another_schedule_are_the_solvers_too(steps):
    members, other = set_of("polynomial"), schedules.polynomial(steps, 0.03, 15.0, rho=3.0)
    placement = place(members, other)
    assert placement.steps == steps and placement.rule in ("whole", "carried")
    assert equal(placement.plan, place(members.member(steps), other).plan)


@pytest.mark.parametrize("steps", [1, 2, 9, 20])
@pytest.mark.parametrize("kind", ["flow", "polynomial", "to 0"])
def test_fewer_or_more_steps_than_any_run_untrained(kind, steps):
    sigmas = SCHEDULES[kind](steps) if steps > 1 else torch.tensor([float(SCHEDULES[kind](2)[0]), 0.1])
    placement = place(set_of(kind), sigmas)
    assert (placement.rule, placement.steps) == ("untrained", 0)
    assert equal(placement.plan, untrained_plan(sigmas))


@pytest.mark.parametrize("steps", [5, 7])
@each_schedule
def test_between_two_solvers_a_mixed_one_runs(kind, steps):
    members = set_of(kind)
    sigmas = SCHEDULES[kind](steps)
    placement = place(members, sigmas)
    assert placement.steps == steps and placement.rule in ("whole", "carried")
    assert not equal(placement.plan, untrained_plan(sigmas))
    own = members.sigmas_for(steps).float()
    for first in range(1, steps):
        part = place(members, own[first:])
        assert (part.rule, part.steps, part.first_step) == ("part", steps, first)


def test_the_first_part_of_another_schedule_is_no_whole_schedule_of_fewer_steps():
    sigmas = schedules.polynomial(20, 0.03, 15.0, rho=3.0)[:6]
    placement = place(set_of("polynomial"), sigmas)
    assert placement.rule == "untrained"


@pytest.mark.parametrize(("steps", "asked"), [((3, 5), 4), ((4, 8), 5), ((4, 8), 7), ((2, 9), 3)])
@each_schedule
def test_what_was_not_learned_is_not_mixed_in(kind, steps, asked):
    """Of two untrained solvers it is the untrained one, on every schedule."""
    plans = [untrained_plan(SCHEDULES[kind](n)) for n in steps]
    solvers = [
        DyWeight(SCHEDULES[kind](n)).requires_grad_(False).set_table(p) for n, p in zip(steps, plans, strict=True)
    ]
    mixed = between(SolverSet(solvers), asked)
    for sigmas in (SCHEDULES[kind](asked), mixed.sigmas):
        for name in fields:
            expected = getattr(untrained_plan(sigmas), name)
            torch.testing.assert_close(getattr(mixed.plan(sigmas), name), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("apart", range(2, TOO_FAR + 2))
def test_it_keeps_the_less_the_farther_apart_they_are(apart):
    """Both asked lower by one factor: so is the mixed one, by less of it."""
    solvers = [DyWeight(schedules.flow(n, 3.0)).requires_grad_(False) for n in (3, 3 + apart)]
    for solver in solvers:
        solver.lower_time(0.9)
    mixed = between(SolverSet(solvers), 4)
    if apart >= TOO_FAR:
        assert mixed is None
        return
    plan = mixed.plan()
    factors = (plan.query_sigmas / plan.sigmas[:-1]).log() / math.log(0.9)
    torch.testing.assert_close(factors, torch.full((4,), 1 - apart / TOO_FAR, dtype=torch.float64))


@given(st.integers(0, 50), st.sampled_from([(3, 5), (4, 6), (3, 6), (4, 8)]), st.sampled_from(list(SCHEDULES)))
def test_it_is_scaled_with_its_noise_levels(seed, steps, kind):
    """The law by which solvers of different schedules are comparable: all levels times a factor give the same gains."""
    solvers = [learned(SCHEDULES[kind](n), seed + n) for n in steps]
    mixed = between(SolverSet(solvers), steps[0] + 1)
    assume(mixed is not None)
    scaled = mixed.plan(mixed.sigmas * 3)
    torch.testing.assert_close(scaled.gains, mixed.plan().gains, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(scaled.query_sigmas, 3 * mixed.plan().query_sigmas, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("slope", ["state", "query"])
def test_where_the_prediction_does_not_change_it_ends_as_near_as_its_neighbours(slope):
    """x - denoised is the noise level times a constant: a step goes along it, whatever its weights."""
    members = SolverSet(learned(schedules.polynomial(n, 0.03, 15.0), n, slope=slope, spread=0.01) for n in (4, 6))
    mixed = between(members, 5)
    x = torch.full((1, 2), 15.0, dtype=torch.float64)

    def denoise(x, sigma):
        return torch.zeros_like(x)

    ends = [float(sample(denoise, x, solver.plan())[0, 0]) for solver in (*map(members.member, (4, 6)), mixed)]
    assert abs(ends[2]) <= 2 * max(map(abs, ends[:2]))


def test_a_history_of_any_length_and_other_families_are_mixed():
    long = SolverSet([learned(schedules.flow(4), order=4), learned(schedules.flow(6), order=1)])
    assert between(long, 5).order == max(4, ORDER) and isinstance(between(long, 5), Between)
    others = SolverSet([FreeTable(schedules.flow(4)), LearnedSchedule(schedules.flow(6))])
    assert between(others, 5).plan().rows == 5


def test_what_can_not_be_mixed_is_none():
    two_calls = SolverSet([LearnedSchedule(schedules.polynomial(4), "heun"), DyWeight(schedules.polynomial(6))])
    analytic = SolverSet(
        [DyWeight(schedules.polynomial(4), analytic_first_step=True), DyWeight(schedules.polynomial(6))]
    )
    assert between(two_calls, 5) is between(analytic, 5) is None
    assert between(set_of("flow"), 3) is between(set_of("flow"), 2) is between(set_of("flow"), 9) is None
    assert place(two_calls, schedules.polynomial(5)).rule == "untrained"
    both = SolverSet(DyWeight(schedules.polynomial(n), analytic_first_step=True) for n in (4, 6))
    assert between(both, 5).plan().analytic_first_step


@pytest.mark.parametrize(("taken", "rule"), [(1.0, "whole"), (100.0, "untrained")])
def test_neighbours_that_found_different_ways_are_not_mixed(taken, rule):
    """One takes much of a slope from one step and gives it back from the one before: its noise levels stay."""
    below, above = learned(schedules.flow(4)), learned(schedules.flow(6))
    above.weights[4, 1] -= taken
    above.weights[4, 2] += taken
    assert place(SolverSet([below, above]), schedules.flow(5)).rule == rule
    assert place(SolverSet([above, learned(schedules.flow(8))]), schedules.flow(6)).rule == "whole", "a member runs"


@pytest.mark.parametrize("steps", [2, 5, 7])
def test_of_one_solver_alone_the_less_is_kept_the_farther_it_is(steps):
    """As a start of a fit: below, beside and above."""
    alone = DyWeight(schedules.flow(4, 3.0)).requires_grad_(False)
    alone.lower_time(0.9)
    low, high = nearest(SolverSet([alone]), steps)
    plan = Between(low, high, schedules.flow(steps, 3.0)).plan()
    factors = (plan.query_sigmas / plan.sigmas[:-1]).log() / math.log(0.9)
    kept = 1 - abs(steps - 4) / TOO_FAR
    torch.testing.assert_close(factors, torch.full((steps,), kept, dtype=torch.float64))


@pytest.mark.parametrize("slope", ["state", "query"])
@pytest.mark.parametrize("steps", [4, 5])
def test_without_time_scaling_the_slopes_of_the_solver_that_runs_keep_their_weights(steps, slope):
    """A mixed solver, for 5 steps, has slopes of its own."""
    members = set_of("flow", slope=slope)
    placement = place(members, members.sigmas_for(steps))
    plain = without_time_scaling(members, placement).plan
    states = placement.plan.sigmas[:-1]
    divisors = placement.plan.query_sigmas if slope == "query" and steps in STEPS else states
    assert torch.equal(plain.query_sigmas, states) and not torch.allclose(placement.plan.query_sigmas, states)
    torch.testing.assert_close(plain.gains * states, placement.plan.gains * divisors)
