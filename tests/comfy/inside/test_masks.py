"""Inpainting with a solver whose weights and time scales are away from 1."""

import pytest
import torch
from sampling_tools import (
    advanced,
    answer_with,
    call,
    custom,
    difference,
    latent,
    model,
    random_solver,
    select,
    sigmas_of,
)

ROUNDING = 2e-6
FAMILIES = ("flux", "sd3", "sd15", "wan")


def half_mask(image, soft=False):
    """[1, *size]: 1 on the right half, or 0 to 1 from left to right."""
    width = image["samples"].shape[-1]
    row = torch.linspace(0, 1, width) if soft else (torch.arange(width) >= width // 2).float()
    return row.expand(1, *image["samples"].shape[2:]).clone()


def halves(latent):
    """(what half_mask keeps, what it gives free), each [batch, channels, *size]."""
    return latent.chunk(2, dim=-1)


def masked_latent(family, soft=False):
    image = latent(family, image=True)
    return {**image, "noise_mask": half_mask(image, soft)}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_unmasked_part_comes_back_and_the_masked_part_changes(pack, family):
    tiny = model(family)
    solver = random_solver(pack, sigmas_of(tiny, 4))
    image = masked_latent(family)
    applied = call("DyWeightApply", model=tiny, solver=solver)
    end = advanced(applied, family, 4, latent_image=image)
    euler = advanced(tiny, family, 4, latent_image=image, sampler_name="euler", scheduler="simple")
    kept, changed = halves(image["samples"])
    assert difference(halves(end)[0], kept) <= difference(halves(euler)[0], kept) + 1e-7
    assert difference(halves(end)[0], kept) < ROUNDING
    assert difference(halves(end)[1], changed) > 0.1


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_euler_weights_with_a_mask_give_comfyuis_euler_with_it(pack, family, soft):
    tiny, image = model(family), masked_latent(family, soft)
    sigmas = sigmas_of(tiny, 4)
    solver = pack.dyweight.DyWeight(sigmas.double(), initial="euler").requires_grad_(False)
    for part in (sigmas, sigmas[:3]):
        ends = [
            custom(tiny, family, sampler, part, latent_image=image)
            for sampler in (call("DyWeightSampler", solver=solver), select("euler"))
        ]
        assert difference(*ends) < ROUNDING, f"to sigma {float(part[-1])}"


@pytest.mark.parametrize("family", ["sd3", "sd15"])
def test_a_soft_mask_leads_gradually_from_the_image_to_the_new_content(pack, family):
    """With a network that always answers 0, what remains of an image of ones grows with what the mask keeps."""
    tiny = model(family)
    answer_with(tiny, lambda x, sigma: torch.zeros_like(x))
    solver = random_solver(pack, sigmas_of(tiny, 5))
    image = {"samples": torch.ones_like(latent(family)["samples"])}
    image["noise_mask"] = half_mask(image, soft=True)
    end = custom(tiny, family, call("DyWeightSampler", solver=solver), sigmas_of(tiny, 5), latent_image=image)
    euler = custom(tiny, family, select("euler"), sigmas_of(tiny, 5), latent_image=image)
    mean = end.mean(dim=(0, 1, 2))
    assert difference(end[..., 0], image["samples"][..., 0]) < ROUNDING
    assert bool((mean[1:] < mean[:-1]).all())
    assert difference(mean, euler.mean(dim=(0, 1, 2))) < 0.2


@pytest.mark.parametrize("analytic", [False, True])
@pytest.mark.parametrize(("family", "flow"), [("sd3", True), ("wan", True), ("sd15", False)])
def test_the_network_sees_the_unmasked_part_at_the_noise_level_of_the_state(pack, family, flow, analytic):
    """Not at the level it is asked at: there would be a seam, since both sides of the mask differ in noise."""
    seen = []

    def gaussian(x, sigma):
        """The exact denoiser of unit-variance data."""
        sigma = sigma.reshape(-1, *[1] * (x.ndim - 1))
        seen.append((x, float(sigma.flatten()[0])))
        scale = 1 - sigma if flow else torch.ones_like(sigma)
        return x * scale / (scale**2 + sigma**2)

    tiny = model(family)
    answer_with(tiny, gaussian)
    solver = random_solver(pack, sigmas_of(tiny, 5), analytic_first_step=analytic)
    image = masked_latent(family)
    noise = call("RandomNoise", noise_seed=3)
    sampler = call("DyWeightSampler", solver=solver)
    custom(tiny, family, sampler, sigmas_of(tiny, 5), latent_image=image, noise=noise)
    clean, drawn = tiny.model.process_latent_in(image["samples"]), noise.generate_noise(image)
    plan = solver.plan()
    states, queries = (levels.tolist()[int(analytic) :] for levels in (plan.sigmas[:-1], plan.query_sigmas))
    assert len(seen) == len(states)
    for (x, asked), state, query in zip(seen, states, queries, strict=True):
        assert asked == pytest.approx(query, rel=1e-5)
        assert abs(state / query - 1) > 1e-3
        expected = state * drawn + (1 - state if flow else 1) * clean
        assert difference(halves(x)[0], halves(expected)[0]) < ROUNDING


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("family", ["sd3", "sd15", "wan"])
def test_differential_diffusion(pack, family, strength):
    tiny = call("DifferentialDiffusion", model=model(family), strength=strength)
    image, sigmas = masked_latent(family, soft=True), sigmas_of(tiny, 5)
    solver = random_solver(pack, sigmas)
    end = advanced(call("DyWeightApply", model=tiny, solver=solver), family, 5, latent_image=image)
    assert torch.isfinite(end).all()
    assert difference(end[..., 0], image["samples"][..., 0]) < ROUNDING
    assert difference(end[..., -1], image["samples"][..., -1]) > 0.1
    as_euler = pack.dyweight.DyWeight(sigmas.double(), initial="euler").requires_grad_(False)
    ends = [
        custom(tiny, family, sampler, sigmas, latent_image=image)
        for sampler in (call("DyWeightSampler", solver=as_euler), select("euler"))
    ]
    assert difference(*ends) < ROUNDING


def test_a_mask_with_a_time_axis(pack):
    """Frames 0 and 2 of a video stay, frame 1 is made anew."""
    tiny, image = model("wan"), latent("wan", image=True)
    image["noise_mask"] = torch.zeros(1, 1, 3, 8, 8)
    image["noise_mask"][:, :, 1] = 1
    solver = random_solver(pack, sigmas_of(tiny, 4))
    end = advanced(call("DyWeightApply", model=tiny, solver=solver), "wan", 4, latent_image=image)
    assert difference(end[:, :, ::2], image["samples"][:, :, ::2]) < ROUNDING
    assert difference(end[:, :, 1], image["samples"][:, :, 1]) > 0.1


def test_a_schedule_that_ends_at_the_models_smallest_sigma_gives_the_unmasked_part_back_too(pack):
    """As the schedules do that the SD 1.5 presets were learned on."""
    tiny, image = model("sd15"), masked_latent("sd15")
    sigmas = pack.dyweight.schedules.vp_discrete(4)
    end = advanced(call("DyWeightApply", model=tiny, solver=random_solver(pack, sigmas)), "sd15", 4, latent_image=image)
    assert difference(halves(end)[0], halves(image["samples"])[0]) < ROUNDING
