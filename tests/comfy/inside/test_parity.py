"""A solver through ComfyUI's samplers gives what the plain loop gives on the same model."""

import pytest
import torch
from sampling_tools import (
    FAMILIES,
    advanced,
    call,
    custom,
    difference,
    model,
    random_solver,
    select,
    sigmas_of,
    textbook,
)

ROUNDING = 2e-6
"""float32 sums in another order, after a handful of network calls."""
SETTINGS = [
    {"order": 1},
    {"order": 2, "slope": "query"},
    {"order": 3},
    {"order": 3, "slope": "query"},
    {"order": 3, "analytic_first_step": True},
    {"order": 2, "slope": "query", "analytic_first_step": True},
    {"order": 3, "time_shifting": False},
    {"order": 3, "time_scaling": False},
]

CASES = [(family, settings) for family in FAMILIES for settings in SETTINGS[:: 3 if family == "sd15" else 1]]
"""All settings, fewer for the tiny UNet: its width is that of the real one, so it is slow."""


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_euler_weights_give_comfyuis_euler(pack, family, order):
    tiny = model(family)
    sigmas = sigmas_of(tiny, 4)
    solver = pack.dyweight.DyWeight(sigmas.double(), order, initial="euler").requires_grad_(False)
    euler = custom(tiny, family, select("euler"), sigmas)
    assert difference(custom(tiny, family, call("DyWeightSampler", solver=solver), sigmas), euler) < ROUNDING
    applied = call("DyWeightApply", model=tiny, solver=solver)
    assert difference(advanced(applied, family, 4), euler) < ROUNDING


@pytest.mark.parametrize(("family", "settings"), CASES, ids=str)
def test_any_solver_gives_the_textbook_loop_in_both_samplers(pack, family, settings):
    tiny = model(family)
    solver = random_solver(pack, sigmas_of(tiny, 5), **settings)
    sigmas = call("DyWeightScheduler", model=tiny, solver=solver, denoise=1.0)
    expected = custom(tiny, family, textbook(solver), sigmas)
    in_custom = custom(tiny, family, call("DyWeightSampler", solver=solver), sigmas)
    in_advanced = advanced(call("DyWeightApply", model=tiny, solver=solver), family, 5)
    print(f"parity {family} {settings}: {difference(in_custom, expected):.1e} {difference(in_advanced, expected):.1e}")
    assert torch.isfinite(expected).all()
    assert difference(in_custom, expected) < ROUNDING
    assert difference(in_advanced, expected) < ROUNDING
    untrained = custom(tiny, family, select("euler"), sigmas)
    assert difference(in_custom, untrained) > 100 * ROUNDING


@pytest.mark.parametrize(("family", "scheduler"), [("sd3", "beta"), ("sd15", "normal"), ("wan", "beta")])
def test_a_mild_solver_gives_the_textbook_loop_on_another_schedule_of_as_many_steps(pack, family, scheduler):
    tiny = model(family)
    solver = random_solver(pack, sigmas_of(tiny, 5), spread=0.01)
    sigmas = sigmas_of(tiny, 5, scheduler)
    assert not torch.allclose(sigmas, solver.sigmas.float(), rtol=1e-3)
    expected = custom(tiny, family, textbook(solver), sigmas)
    applied = call("DyWeightApply", model=tiny, solver=solver)
    assert difference(custom(tiny, family, call("DyWeightSampler", solver=solver), sigmas), expected) < ROUNDING
    assert difference(advanced(applied, family, 5, scheduler=scheduler), expected) < ROUNDING


def test_a_mild_solver_gives_the_textbook_loop_at_another_shift(pack):
    tiny = model("sd3")
    solver = random_solver(pack, sigmas_of(tiny, 5), spread=0.01)
    shifted = call("ModelSamplingSD3", model=tiny, shift=6.0)
    sigmas = sigmas_of(shifted, 5)
    expected = custom(shifted, "sd3", textbook(solver), sigmas)
    assert difference(custom(shifted, "sd3", call("DyWeightSampler", solver=solver), sigmas), expected) < ROUNDING


def test_a_model_that_is_told_its_guidance_goes_through_the_basic_guider(pack):
    import tiny_models

    tiny = model("flux")
    positive = [[text, {**extra, "guidance": 3.5}] for text, extra in tiny_models.conditioning("flux")]
    solver = random_solver(pack, sigmas_of(tiny, 4))
    run = {
        "noise": call("RandomNoise", noise_seed=3),
        "guider": call("BasicGuider", model=tiny, conditioning=positive),
        "sigmas": call("DyWeightScheduler", model=tiny, solver=solver, denoise=1.0),
        "latent_image": {"samples": torch.zeros(1, 16, 8, 8)},
    }
    learned = call("SamplerCustomAdvanced", sampler=call("DyWeightSampler", solver=solver), **run)["samples"]
    expected = call("SamplerCustomAdvanced", sampler=textbook(solver), **run)["samples"]
    assert difference(learned, expected) < ROUNDING
