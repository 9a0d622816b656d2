"""Solvers that learn one table for all samples: a schedule over a handcrafted solver, and a table without structure."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dyweight import DyWeight, FreeTable, LearnedSchedule, SolverFile, baselines, sample, save_solver
from dyweight import schedules as known_schedules
from dyweight.placement import place, untrained_plan

SCHEDULES = {
    "flow": known_schedules.flow(5),
    "polynomial": known_schedules.polynomial(5),
    "to zero": torch.cat([known_schedules.polynomial(4), torch.zeros(1, dtype=torch.float64)]),
}
FAMILIES = {"learned-schedule": LearnedSchedule, "free-table": FreeTable}
ONE_CALL = [name for name in baselines.NAMES if name not in ("heun", "dpm_solver_2")]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES)
each_family = pytest.mark.parametrize("family", FAMILIES)


def shaken(family, schedule="flow", base="ipndm", size=0.1, **options):
    """A solver as after a fit: every number a little off its start."""
    solver = FAMILIES[family](SCHEDULES[schedule], base, **options).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for value in solver.parameters():
        value += size * torch.randn(value.shape, generator=generator, dtype=torch.float64)
    if family == "free-table":
        solver.gains.copy_(solver.gains.tril())
    return solver


def assert_same_plan(found, expected, tolerance=1e-12):
    for name in ("sigmas", "query_sigmas", "gains"):
        one, other = getattr(found, name).detach(), getattr(expected, name).detach()
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@each_schedule
@pytest.mark.parametrize("base", baselines.NAMES)
def test_an_untrained_schedule_is_its_base_solver(base, schedule):
    solver = LearnedSchedule(SCHEDULES[schedule], base)
    expected = baselines.plan(base, SCHEDULES[schedule])
    assert_same_plan(solver.plan(), expected)
    assert solver.network_calls == expected.network_calls and solver.steps == 5


@each_schedule
@pytest.mark.parametrize("base", ONE_CALL)
def test_an_untrained_table_is_the_solver_it_begins_as(base, schedule):
    assert_same_plan(FreeTable(SCHEDULES[schedule], base).plan(), baselines.plan(base, SCHEDULES[schedule]))


@each_schedule
def test_a_learned_schedule_is_the_base_solver_on_the_papers_times(schedule):
    """Times by cumulative softmax, and eps(x, q) in the place of eps(x, tau) in the textbook loop."""
    solver = shaken("learned-schedule", schedule, order=2)
    base, logits = solver.sigmas, 4 * torch.tanh(solver.logits / 4)
    share = torch.softmax((base[:-1] - base[1:]).log() + logits, 0)
    tau = [float(base[0] - share[:n].sum() * (base[0] - base[-1])) for n in range(6)]

    def denoise(x, sigma):
        return torch.sin(3 * x) / (1 + sigma)

    noise = torch.randn(4, 3, dtype=torch.float64) * base[0]
    x, slopes = noise, []
    for n in range(5):
        asked = tau[n] * float(solver.log_time_scale[n].exp())
        slopes.append((x - denoise(x, asked)) / asked)
        mean = slopes[-1] if n == 0 else 1.5 * slopes[-1] - 0.5 * slopes[-2]
        x = x + (tau[n + 1] - tau[n]) * mean
    found = sample(lambda x, sigma: denoise(x, sigma.reshape(-1, 1)), noise, solver.plan())
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)


@each_schedule
@settings(deadline=None, max_examples=50)
@given(logits=st.lists(st.floats(-1e300, 1e300), min_size=5, max_size=5))
def test_the_schedule_decreases_between_its_ends_whatever_the_logits(schedule, logits):
    solver = LearnedSchedule(SCHEDULES[schedule]).requires_grad_(False)
    solver.logits.copy_(torch.tensor(logits, dtype=torch.float64))
    times = solver.plan().sigmas
    assert bool((times[1:] < times[:-1]).all())
    assert float(times[0]) == float(solver.sigmas[0]) and float(times[-1]) == float(solver.sigmas[-1])


@each_schedule
def test_only_how_the_logits_differ_matters_while_they_are_small(schedule):
    solver = shaken("learned-schedule", schedule, size=1e-3)
    before = solver.plan().sigmas
    solver.logits += 1e-3
    torch.testing.assert_close(solver.plan().sigmas, before, rtol=1e-6, atol=1e-9)


@each_family
@each_schedule
def test_a_perfect_denoiser_stays_where_it_is(family, schedule):
    x = torch.randn(2, 3, dtype=torch.float64)
    torch.testing.assert_close(sample(lambda x, sigma: x, x, shaken(family, schedule).plan()), x)


@each_schedule
def test_a_free_table_holds_every_dyweight_without_time_shifting(schedule):
    """On its own schedule and on another: the weights of the slopes are what stays."""
    weighted = DyWeight(SCHEDULES[schedule], 5, time_shifting=False).requires_grad_(False)
    weighted.weights += 0.1 * torch.randn(5, 5, dtype=torch.float64) * (weighted.weights != 0)
    weighted.time_scale *= 0.9
    table = FreeTable(SCHEDULES[schedule]).requires_grad_(False)
    table.gains.copy_(weighted.plan().gains)
    table.log_time_scale.copy_(weighted.time_scale.log())
    assert_same_plan(table.plan(), weighted.plan())
    torch.testing.assert_close(table.weights, weighted.weights)
    torch.testing.assert_close(table.time_scale, weighted.time_scale)
    for other in (SCHEDULES[schedule] * 1.3, SCHEDULES[schedule] ** 1.1):
        assert_same_plan(table.plan(other), weighted.plan(other), 1e-10)


@each_family
def test_a_schedule_scaled_by_a_number_scales_the_times_only(family):
    own = shaken(family, "polynomial")
    scaled = own.plan(2 * own.sigmas)
    torch.testing.assert_close(scaled.sigmas, 2 * own.plan().sigmas)
    torch.testing.assert_close(scaled.gains, own.plan().gains)


@each_family
def test_gradients_reach_every_number_that_is_used(family):
    solver = FAMILIES[family](SCHEDULES["flow"])
    end = sample(lambda x, sigma: torch.sin(x) * sigma[:, None], torch.randn(4, 3).double(), solver.plan())
    end.square().sum().backward()
    for name, value in solver.named_parameters():
        used = torch.ones_like(value).tril() if name == "gains" else torch.ones_like(value)
        assert torch.equal(value.grad != 0, used.bool()), name


def test_without_time_scaling_calls_are_at_the_states():
    plan = shaken("learned-schedule", time_scaling=False).plan()
    torch.testing.assert_close(plan.query_sigmas, plan.sigmas[:-1])
    assert_same_plan(plan, baselines.plan("ipndm", plan.sigmas))


@each_family
def test_its_own_schedule_rounded_as_comfyui_rounds_it_gives_its_own_table(family):
    solver = shaken(family, "polynomial")
    placement = place(solver, solver.sigmas.float())
    assert placement.rule == "whole"
    assert_same_plan(placement.plan, solver.plan(), 1e-6)


@each_family
@pytest.mark.parametrize("first", range(1, 5))
@each_schedule
def test_two_parts_hand_over_at_one_noise_level_and_end_where_the_whole_ends(family, schedule, first):
    solver = shaken(family, schedule, size=0.02)
    before = place(solver, solver.sigmas[: first + 1]).plan
    after = place(solver, solver.sigmas[first:], start=float(before.sigmas[-1])).plan
    torch.testing.assert_close(before.sigmas[-1], after.sigmas[0])
    torch.testing.assert_close(after.sigmas[-1], solver.plan().sigmas[-1])
    whole = solver.plan()
    torch.testing.assert_close(before.gains, whole.gains[:first, :first])
    torch.testing.assert_close(torch.cat([before.query_sigmas, after.query_sigmas]), whole.query_sigmas)


@each_family
def test_a_schedule_that_it_knows_nothing_of_runs_untrained(family):
    solver = shaken(family, "polynomial")
    sigmas = known_schedules.polynomial(3, 0.5, 20.0)
    placement = place(solver, sigmas)
    assert placement.rule == "untrained"
    assert_same_plan(placement.plan, untrained_plan(sigmas))


@each_family
@each_schedule
def test_a_file_gives_the_same_solver(family, schedule, tmp_path):
    solver = shaken(family, schedule, "dpmpp_2m")
    save_solver(solver, tmp_path / "one", {"model": "test"})
    file = SolverFile.read(tmp_path / "one")
    loaded = file.solver
    assert type(loaded) is type(solver) and file.provenance == {"model": "test"}
    assert_same_plan(loaded.plan(), solver.plan(), 0)
    file.write(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_table_with_two_calls_a_step_is_refused():
    with pytest.raises(ValueError, match="heun makes 9 network calls in 5 steps: give a solver with one"):
        FreeTable(SCHEDULES["flow"], "heun")


@each_family
def test_an_unknown_base_is_refused(family):
    with pytest.raises(ValueError, match="did you mean euler"):
        FAMILIES[family](SCHEDULES["flow"], "euller")


@each_family
def test_another_number_of_steps_is_refused(family):
    with pytest.raises(ValueError, match="sigmas has 4 steps, this solver is for 5"):
        shaken(family).plan(known_schedules.flow(4))
