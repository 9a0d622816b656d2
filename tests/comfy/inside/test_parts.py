"""Parts of a schedule: start and end steps, split sigmas, denoise below 1, other schedules and other step counts."""

import pytest
import torch
from sampling_tools import (
    FAMILIES,
    advanced,
    call,
    custom,
    difference,
    guided,
    ksampler,
    latent,
    model,
    random_solver,
    said,
    select,
    sigmas_of,
    textbook,
    untrained,
    warned,
)

ROUNDING = 2e-6
STEPS = 6


def one_step_solver(pack, sigmas):
    """Order 1, rows that sum to 1 and time scales away from 1: it has no history, so parts of it are exact."""
    solver = random_solver(pack, sigmas, order=1, spread=0.2)
    solver.weights.fill_(1.0)
    return solver


def rows_from(pack, solver, first, last, end=None):
    """Rows of a solver without history as a solver of their own."""
    sigmas = solver.sigmas[first : last + 1].clone()
    if end is not None:
        sigmas[-1] = end
    part = pack.dyweight.DyWeight(sigmas, order=1, slope=solver.slope).requires_grad_(False)
    part.time_scale.copy_(solver.time_scale[first:last])
    return part


@pytest.mark.parametrize("shifts_time", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_two_halves_equal_the_whole_in_ksampler_advanced(pack, family, shifts_time):
    tiny = model(family)
    solver = one_step_solver(pack, sigmas_of(tiny, STEPS))
    if shifts_time:
        solver.weights.copy_(random_solver(pack, solver.sigmas, order=1).weights)
    applied = call("DyWeightApply", model=tiny, solver=solver)
    whole = advanced(applied, family, STEPS)
    first = advanced(applied, family, STEPS, end_at_step=2, return_with_leftover_noise="enable")
    second = advanced(applied, family, STEPS, start_at_step=2, add_noise="disable", latent_image={"samples": first})
    assert difference(second, whole) < 2 * ROUNDING
    assert difference(first, whole) > 0.01


@pytest.mark.parametrize("family", ["sd3", "sd15", "wan"])
def test_two_halves_equal_the_whole_with_split_sigmas(pack, family):
    import nodes

    tiny = model(family)
    solver = one_step_solver(pack, sigmas_of(tiny, STEPS))
    sigmas = call("DyWeightScheduler", model=tiny, solver=solver, denoise=1.0)
    call("SplitSigmas", sigmas=sigmas, step=4)
    high, low = nodes.NODE_CLASS_MAPPINGS["SplitSigmas"].execute(sigmas, 4).args
    sampler = call("DyWeightSampler", solver=solver)
    first = custom(tiny, family, sampler, high)
    second = custom(tiny, family, sampler, low, noise=call("DisableNoise"), latent_image={"samples": first})
    assert difference(second, custom(tiny, family, sampler, sigmas)) < 2 * ROUNDING


@pytest.mark.parametrize("slope", ["state", "query"])
@pytest.mark.parametrize("family", ["sd3", "sd15"])
def test_halves_of_a_learned_solver_stay_near_the_whole(pack, family, slope):
    """The second half starts without history: nearer to the whole than Euler's second half after Euler's first is."""
    tiny = model(family)
    solver = random_solver(pack, sigmas_of(tiny, STEPS), slope=slope, spread=0.05)
    applied = call("DyWeightApply", model=tiny, solver=solver)
    whole = advanced(applied, family, STEPS)
    first = advanced(applied, family, STEPS, end_at_step=3, return_with_leftover_noise="enable")
    second = advanced(applied, family, STEPS, start_at_step=3, add_noise="disable", latent_image={"samples": first})
    euler = advanced(applied, family, STEPS, sampler_name="euler")
    assert 0 < difference(second, whole) < difference(euler, whole)


@pytest.mark.parametrize("family", ["sd3", "sd15"])
def test_an_early_end_without_leftover_noise_gives_the_last_prediction(pack, family):
    tiny = model(family)
    solver = one_step_solver(pack, sigmas_of(tiny, STEPS))
    end = advanced(call("DyWeightApply", model=tiny, solver=solver), family, STEPS, end_at_step=3)
    first_rows = rows_from(pack, solver, 0, 3, end=0.0)
    assert difference(end, custom(tiny, family, textbook(first_rows), first_rows.sigmas.float())) < ROUNDING


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_ksamplers_denoise_runs_the_last_learned_steps_when_their_number_fits(pack, family, order, caplog):
    """denoise 0.5 at 3 steps asks the scheduler for 6 steps, those of the solver, and keeps the last 3."""
    tiny, image = model(family), latent(family, image=True)
    sigmas = sigmas_of(tiny, STEPS)
    solver = one_step_solver(pack, sigmas) if order == 1 else random_solver(pack, sigmas, order=order)
    end = ksampler(call("DyWeightApply", model=tiny, solver=solver), family, 3, latent_image=image, denoise=0.5)
    part = call("DyWeightScheduler", model=tiny, solver=solver, denoise=0.5)
    assert torch.equal(part, solver.sigmas[3:].float())
    in_custom = custom(tiny, family, call("DyWeightSampler", solver=solver), part, latent_image=image)
    assert torch.equal(end, in_custom)
    if order == 1:
        rows = rows_from(pack, solver, 3, 6)
        assert difference(end, custom(tiny, family, textbook(rows), part, latent_image=image)) < ROUNDING
    assert not said(caplog)


@pytest.mark.parametrize(("denoise", "steps"), [(1.0, 6), (0.5, 3), (0.34, 2), (0.1, 1), (0.05, 1), (0.0, 0)])
def test_the_scheduler_node_gives_the_last_steps(pack, denoise, steps):
    tiny = model("sd3")
    solver = random_solver(pack, sigmas_of(tiny, STEPS))
    sigmas = call("DyWeightScheduler", model=tiny, solver=solver, denoise=denoise)
    assert sigmas.dtype == torch.float32
    assert sigmas.tolist() == (solver.sigmas[STEPS - steps :].float().tolist() if steps else [])


@pytest.mark.parametrize("family", ["sd3", "sd15"])
def test_a_denoise_off_the_schedule_runs_the_untrained_solver_and_warns(pack, family, caplog):
    tiny, image = model(family), latent(family, image=True)
    solver = random_solver(pack, sigmas_of(tiny, STEPS))
    part = sigmas_of(tiny, 2 * STEPS, "beta")[-STEPS - 1 :]
    end = custom(tiny, family, call("DyWeightSampler", solver=solver), part, latent_image=image)
    (line,) = said(caplog)
    assert [line] == warned(caplog)
    assert f"Set steps so that steps / denoise is {STEPS}" in line and "No learned steps were used" in line
    assert difference(end, custom(tiny, family, untrained(pack, part), part, latent_image=image)) < ROUNDING


@pytest.mark.parametrize("scheduler", ["dyweight", "simple"])
@pytest.mark.parametrize("steps", [4, 9])
def test_another_number_of_steps_is_an_error_that_says_which_steps_the_solver_is_for(pack, steps, scheduler):
    tiny = model("sd3")
    applied = call("DyWeightApply", model=tiny, solver=random_solver(pack, sigmas_of(tiny, STEPS)))
    with pytest.raises(ValueError, match=f"^Set steps to {STEPS} and scheduler to dyweight: .* not for {steps} steps"):
        advanced(applied, "sd3", steps, scheduler=scheduler)


@pytest.mark.parametrize(("scheduler", "warned"), [("simple", False), ("beta", True)])
def test_other_values_of_as_many_steps_are_used_and_named_where_they_are_far(pack, scheduler, warned, caplog):
    tiny = model("sd3")
    solver = random_solver(pack, sigmas_of(tiny, STEPS), spread=0.02)
    end = advanced(call("DyWeightApply", model=tiny, solver=solver), "sd3", STEPS, scheduler=scheduler)
    expected = custom(tiny, "sd3", textbook(solver), sigmas_of(tiny, STEPS, scheduler))
    assert difference(end, expected) < ROUNDING
    assert ("Set scheduler to dyweight: " in caplog.text) == warned


def test_wild_weights_on_far_sigmas_give_a_finite_latent(pack):
    tiny = model("sd15")
    solver = random_solver(pack, sigmas_of(tiny, STEPS), spread=0.3)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for scheduler in ("karras", "normal"):
        sigmas = sigmas_of(tiny, STEPS, scheduler)
        sampler = call("DyWeightSampler", solver=solver)
        end, euler = (guided(tiny, "sd15", s, sigmas, noise) for s in (sampler, select("euler")))
        assert torch.isfinite(end).all()
        assert float(end.std()) < 3 * float(euler.std()), scheduler
