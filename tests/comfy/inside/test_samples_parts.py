"""Parts of a schedule, other schedules and masks, with a table for each sample."""

import pytest
import tiny_models
import torch
from sample_solvers import KINDS, STEPS, for_model, speaking
from sampling_tools import (
    FAMILIES,
    advanced,
    answer_with,
    call,
    custom,
    difference,
    guided,
    in_file,
    ksampler,
    latent,
    model,
    select,
    sigmas_of,
    warned,
)

ROUNDING = 5e-6
each_kind = pytest.mark.parametrize("kind", KINDS)
each_family = pytest.mark.parametrize("family", FAMILIES)


def drawn(family, batch=3):
    return torch.randn(batch, *tiny_models.LATENT[family], generator=torch.Generator().manual_seed(4))


def halves(applied, family, batch, at=2):
    """(endpoint, latent between) of two KSamplerAdvanced."""
    empty = latent(family, batch)
    first = advanced(applied, family, STEPS, end_at_step=at, return_with_leftover_noise="enable", latent_image=empty)
    rest = {"start_at_step": at, "add_noise": "disable", "latent_image": {"samples": first}}
    return advanced(applied, family, STEPS, **rest), first


@each_family
def test_halves_of_a_solver_without_history_that_reads_no_sample_are_the_whole(pack, family):
    tiny = model(family)
    solver = for_model(pack, "indis", family, tiny, base="euler", instance=False, condition_width=0)
    applied = call("DyWeightApply", model=tiny, solver=solver)
    whole = advanced(applied, family, STEPS, latent_image=latent(family, 2))
    end, between = halves(applied, family, 2)
    assert difference(end, whole) < ROUNDING
    assert difference(between, whole) > 0.01


@each_kind
@pytest.mark.parametrize("family", ["flux", "sd3"])
def test_halves_are_nearer_to_the_whole_than_euler_and_nothing_is_wrong_with_them(pack, family, kind, caplog):
    tiny = model(family)
    solver = for_model(pack, kind, family, tiny, loud=0.3)
    solver = in_file(pack, solver, f"said-of-{family}-{kind}")
    applied = call("DyWeightApply", model=tiny, solver=solver)
    whole = advanced(applied, family, STEPS, latent_image=latent(family, 2))
    assert not warned(caplog)
    end, _ = halves(applied, family, 2)
    halves(applied, family, 2)
    assert not warned(caplog)
    euler = advanced(applied, family, STEPS, sampler_name="euler", latent_image=latent(family, 2))
    assert 0 < difference(end, whole) < difference(euler, whole)


@each_kind
@pytest.mark.parametrize("base", ["ipndm", "heun"])
def test_ksamplers_denoise_runs_the_last_learned_steps_of_each_sample(pack, kind, base, caplog):
    if kind != "indis" and base != "ipndm":
        pytest.skip("a DyWeight has no base solver")
    tiny, noise = model("sd3"), drawn("sd3")
    sigmas = sigmas_of(tiny, 6)
    solver = speaking(pack, kind, "sd3", sigmas, **({"base": base} if kind == "indis" else {}))
    image = latent("sd3", 3, image=True)
    part = call("DyWeightScheduler", model=tiny, solver=solver, denoise=0.5)
    sampler = call("DyWeightSampler", solver=solver)
    end = custom(tiny, "sd3", sampler, part, latent_image=image)
    applied = call("DyWeightApply", model=tiny, solver=solver)
    in_ksampler = ksampler(applied, "sd3", 3, latent_image=image, denoise=0.5)
    assert torch.equal(end, in_ksampler)
    assert not warned(caplog)
    clean = tiny.model.process_latent_in(image["samples"])
    together = guided(tiny, "sd3", sampler, part, noise, latent_image=clean)
    for i in range(3):
        alone = guided(tiny, "sd3", sampler, part, noise[i : i + 1], latent_image=clean[i : i + 1])
        assert difference(together[i : i + 1], alone) < 10 * ROUNDING


@pytest.mark.parametrize("scheduler", ["beta", "normal", "karras", "kl_optimal"])
@each_kind
@pytest.mark.parametrize("family", ["sd3", "sd15"])
def test_on_another_schedule_of_as_many_steps_a_batch_is_its_members(pack, family, kind, scheduler):
    tiny, noise = model(family), drawn(family)
    solver = for_model(pack, kind, family, tiny)
    sampler, sigmas = call("DyWeightSampler", solver=solver), sigmas_of(tiny, STEPS, scheduler)
    together = guided(tiny, family, sampler, sigmas, noise)
    assert torch.isfinite(together).all()
    for i in range(3):
        alone = guided(tiny, family, sampler, sigmas, noise[i : i + 1])
        assert difference(together[i : i + 1], alone) < 20 * ROUNDING


def half_mask(image, soft=False):
    width = image["samples"].shape[-1]
    row = torch.linspace(0, 1, width) if soft else (torch.arange(width) >= width // 2).float()
    return row.expand(1, *image["samples"].shape[2:]).clone()


def masked(family, soft=False, batch=2):
    image = latent(family, batch, image=True)
    return {**image, "noise_mask": half_mask(image, soft)}


@each_kind
@each_family
def test_with_a_mask_the_unmasked_part_comes_back_and_the_masked_part_changes(pack, family, kind):
    tiny, image = model(family), masked(family)
    applied = call("DyWeightApply", model=tiny, solver=for_model(pack, kind, family, tiny))
    end = advanced(applied, family, STEPS, latent_image=image)
    kept, changed = image["samples"].chunk(2, dim=-1)
    assert difference(end.chunk(2, dim=-1)[0], kept) < ROUNDING
    assert difference(end.chunk(2, dim=-1)[1], changed) > 0.1


@pytest.mark.parametrize("soft", [False, True])
@each_family
def test_untrained_indis_over_euler_with_a_mask_is_comfyuis_euler_with_it(pack, family, soft):
    tiny, image = model(family), masked(family, soft)
    solver = for_model(pack, "indis", family, tiny, loud=0.0, base="euler")
    samplers = (call("DyWeightSampler", solver=solver), select("euler"))
    ends = [custom(tiny, family, sampler, solver.sigmas.float(), latent_image=image) for sampler in samplers]
    assert difference(*ends) < 10 * ROUNDING


@pytest.mark.parametrize(("family", "flow"), [("sd3", True), ("wan", True), ("sd15", False)])
@each_kind
def test_the_network_sees_the_unmasked_part_of_each_sample_at_the_noise_level_of_its_state(pack, kind, family, flow):
    seen = []

    def gaussian(x, asked):
        """The exact denoiser of unit-variance data."""
        sigma = asked.reshape(-1, *[1] * (x.ndim - 1))
        seen.append((x, asked))
        scale = 1 - sigma if flow else torch.ones_like(sigma)
        return x * scale / (scale**2 + sigma**2)

    tiny, image, noise = model(family), masked(family), call("RandomNoise", noise_seed=3)
    answer_with(tiny, gaussian)
    solver = for_model(pack, kind, family, tiny, condition_width=0)
    custom(tiny, family, call("DyWeightSampler", solver=solver), solver.sigmas.float(), latent_image=image, noise=noise)
    clean, drawn = tiny.model.process_latent_in(image["samples"]), noise.generate_noise(image)
    first = float(solver.sigmas[0])
    plan = solver.plan(noise=drawn * (first if flow else (1 + first**2) ** 0.5))
    assert len(seen) == STEPS
    for i, (x, asked) in enumerate(seen):
        assert difference(asked.double(), plan.query_sigmas[:, i]) < ROUNDING
        assert float(asked.std()) > 0
        state = plan.sigmas[:, i].float().reshape(-1, *[1] * (x.ndim - 1))
        expected = state * drawn + (1 - state if flow else 1) * clean
        assert difference(x.chunk(2, dim=-1)[0], expected.chunk(2, dim=-1)[0]) < ROUNDING


@pytest.mark.parametrize("family", ["sd3", "sd15", "wan"])
def test_differential_diffusion(pack, family):
    tiny = call("DifferentialDiffusion", model=model(family), strength=1.0)
    image = masked(family, soft=True)
    applied = call("DyWeightApply", model=tiny, solver=for_model(pack, "indis", family, tiny))
    end = advanced(applied, family, STEPS, latent_image=image)
    assert torch.isfinite(end).all()
    assert difference(end[..., 0], image["samples"][..., 0]) < ROUNDING
    assert difference(end[..., -1], image["samples"][..., -1]) > 0.1
