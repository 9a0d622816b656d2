"""Noise switched off: the latent of an earlier part is known again, and any other is at the sigma it arrives at."""

import logging
from importlib import import_module

import pytest
import torch
from sampling_tools import (
    FAMILIES,
    advanced,
    call,
    difference,
    latent,
    model,
    random_solver,
    sigmas_of,
    watch_network,
)
from test_presets import PRESETS

pytestmark = pytest.mark.usefixtures("pack")
ROUNDING = 4e-6
STEPS = 5


def with_noise(tiny, family, sigma, seed=3):
    """LATENT of an image with the sampler's own noise put in by hand, as Inject Noise nodes do it."""
    image, sampling = latent(family, image=True), tiny.get_model_object("model_sampling")
    noise = call("RandomNoise", noise_seed=seed).generate_noise(image)
    clean = tiny.model.process_latent_in(image["samples"])
    noised = sampling.noise_scaling(sigma, noise, clean, False)
    return {"samples": tiny.model.process_latent_out(sampling.inverse_noise_scaling(sigma, noised))}


@pytest.mark.parametrize("first", range(1, STEPS))
@pytest.mark.parametrize("family", FAMILIES)
def test_noise_that_another_node_put_in_is_noise_at_the_first_sigma(pack, family, first, caplog):
    tiny = model(family)
    solver = random_solver(pack, sigmas_of(tiny, STEPS))
    applied = call("DyWeightApply", model=tiny, solver=solver)
    own = advanced(applied, family, STEPS, latent_image=latent(family, image=True), start_at_step=first)
    with caplog.at_level(logging.INFO):
        noised = with_noise(tiny, family, solver.sigmas[first].float())
        put_in = advanced(
            applied, family, STEPS, latent_image=noised, start_at_step=first, add_noise="disable", noise_seed=8
        )
    assert difference(put_in, own) < 10 * ROUNDING
    assert f"taken to be at sigma {float(solver.sigmas[first]):.4g}" in caplog.text


@pytest.mark.parametrize(("name", "family", "cfg"), PRESETS)
def test_parts_of_a_preset_go_on_where_the_one_before_had_come(pack, name, family, cfg, caplog):
    """The calls of the second part are asked at the levels of the whole run."""
    tiny, file = model(family), call("DyWeightLoadSolver", solver_name=name)
    applied, asked, solver = call("DyWeightApply", model=tiny, solver=file), [], file.solver
    watch_network(applied, lambda x, sigma: asked.append(float(sigma[0])))
    with caplog.at_level(logging.INFO):
        half = advanced(applied, family, solver.steps, end_at_step=2, return_with_leftover_noise="enable", cfg=1.0)
        half = half.half().float()  # intermediate results are half precision in some installations
        run = {"add_noise": "disable", "start_at_step": 2, "latent_image": {"samples": half}}
        advanced(applied, family, solver.steps, **run)
    torch.testing.assert_close(torch.tensor(asked), solver.plan().query_sigmas.float(), rtol=1e-5, atol=0)
    assert "taken to be" not in caplog.text


def test_a_batch_goes_on_sample_by_sample_and_in_any_order(pack):
    tiny = model("sd3")
    solver = random_solver(pack, sigmas_of(tiny, STEPS))
    applied = call("DyWeightApply", model=tiny, solver=solver)
    half = advanced(
        applied, "sd3", STEPS, end_at_step=2, return_with_leftover_noise="enable", latent_image=latent("sd3", 3)
    )
    run = {"add_noise": "disable", "start_at_step": 2}
    whole = advanced(applied, "sd3", STEPS, **run, latent_image={"samples": half})
    picked = advanced(applied, "sd3", STEPS, **run, latent_image={"samples": half[[2, 0]]})
    assert difference(picked, whole[[2, 0]]) < ROUNDING


def test_a_latent_of_many_elements_is_told_by_some_of_them(pack):
    """More than float32 can count, as videos and pictures of pixels have."""
    handover = import_module(f"{pack.__name__}.nodes.handover")
    many = torch.ones(1, 1).expand(1, 2**24 + 4)  # takes no memory
    handover.leave(many, torch.tensor(0.5))
    assert handover.found(many) == 0.5


def test_what_was_left_is_told_from_what_was_changed(pack):
    handover = import_module(f"{pack.__name__}.nodes.handover")
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    handover.leave(x, torch.tensor(0.4, dtype=torch.float64))
    assert handover.found(x) == handover.found(x.bfloat16()) == handover.found(x[1:]) == 0.4
    assert handover.found(x + 0.1 * torch.randn(x.shape)) is None
    assert handover.found(torch.cat([x, x * 2])) is None
    assert handover.found(x[:, :, :4]) is None
    assert handover.found(torch.zeros(1, 4, 8, 8)) is None
    handover.leave(x[:1], torch.tensor(0.3, dtype=torch.float64))
    assert handover.found(x[:1]) == 0.3
    assert handover.found(x) is None  # two levels are no level


def test_a_run_to_the_smallest_sigma_of_the_model_leaves_nothing_to_continue(pack, caplog):
    """As the SD 1.5 presets end: a finished picture that is sampled again without noise is not an unfinished one."""
    tiny = model("sd15")
    applied = call("DyWeightApply", model=tiny, solver=random_solver(pack, pack.dyweight.schedules.vp_discrete(4)))
    done = advanced(applied, "sd15", 4, noise_seed=21)
    with caplog.at_level(logging.INFO):
        advanced(applied, "sd15", 4, add_noise="disable", start_at_step=2, latent_image={"samples": done})
    assert "taken to be at sigma" in caplog.text
