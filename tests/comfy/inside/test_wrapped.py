"""Samplers of other packs around this one: what ComfyUI hands a sampler and they do not hand on is found."""

import pytest
import torch
from sample_solvers import KINDS, for_model
from sampling_tools import (
    FAMILIES,
    call,
    custom,
    difference,
    guided,
    model,
    random_solver,
    said,
    sigmas_of,
    warned,
    watch_network,
    wrapping,
)
from test_masks import masked_latent
from test_presets import PRESETS

pytestmark = pytest.mark.usefixtures("pack")
ROUNDING = 2e-6


@pytest.mark.parametrize(("name", "family", "cfg"), PRESETS[2:4])
@pytest.mark.parametrize("mask", ["hard", "soft", "differential", "batch"])
def test_outside_a_mask_nothing_changes(name, family, cfg, mask):
    tiny, file = model(family), call("DyWeightLoadSolver", solver_name=name)
    sampler, sigmas = call("DyWeightSampler", solver=file), file.solver.sigmas.float()
    image = masked_latent(family, soft=mask in ("soft", "differential"))
    if mask == "differential":
        tiny = call("DifferentialDiffusion", model=tiny, strength=1.0)
    if mask == "batch":
        image = {"samples": image["samples"].repeat(2, 1, 1, 1), "noise_mask": image["noise_mask"].repeat(2, 1, 1)}
        image["noise_mask"][1] = 1 - image["noise_mask"][0]
    ends = [
        custom(tiny, family, one, sigmas, latent_image=image, cfg=cfg)
        for one in (sampler, wrapping(sampler), wrapping(wrapping(sampler)))
    ]
    assert difference(ends[1], ends[0]) < ROUNDING
    assert difference(ends[2], ends[0]) < ROUNDING
    kept = image["noise_mask"].reshape(len(ends[0]), 1, *image["samples"].shape[2:]).expand_as(ends[0]) == 0
    assert bool(kept.any())
    detailed = custom(tiny, family, wrapping(sampler, 0.95), sigmas, latent_image=image, cfg=cfg)
    for end in (*ends, detailed):
        assert difference(end[kept], image["samples"][kept]) < ROUNDING
        assert difference(end[~kept], image["samples"][~kept]) > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_a_second_half_inside_a_wrapping_sampler_is_the_second_half(pack, family):
    tiny = model(family)
    solver = random_solver(pack, sigmas_of(tiny, 5))
    sampler, sigmas = call("DyWeightSampler", solver=solver), solver.sigmas.float()
    first = custom(tiny, family, sampler, sigmas[:3])
    run = {"noise": call("DisableNoise"), "latent_image": {"samples": first}}
    plain, wrapped = (custom(tiny, family, one, sigmas[2:], **run) for one in (sampler, wrapping(sampler)))
    assert difference(wrapped, plain) < ROUNDING


@pytest.mark.parametrize("kind", KINDS)
def test_samples_in_a_wrapping_sampler_have_schedules_of_their_own(pack, kind, caplog):
    tiny = model("sd3")
    solver = for_model(pack, kind, "sd3", tiny)
    sampler, sigmas = call("DyWeightSampler", solver=solver), solver.sigmas.float()
    noise = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(4))
    plain, wrapped = (guided(tiny, "sd3", one, sigmas, noise) for one in (sampler, wrapping(sampler)))
    assert difference(wrapped, plain) < ROUNDING
    assert not said(caplog)


def test_where_the_kept_latent_is_out_of_reach_the_log_says_what_follows(pack, caplog):
    """In a thread of its own there is no caller that has it."""
    from concurrent.futures import ThreadPoolExecutor

    import comfy.samplers

    tiny = model("sd3")
    sampler = call("DyWeightSampler", solver=random_solver(pack, sigmas_of(tiny, 4)))

    def elsewhere(model, x, sigmas, **options):
        def asked(x, sigma, **extra):
            return model(x, sigma, **extra)

        asked.inner_model, asked.sigmas = model.inner_model, model.sigmas
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(sampler.sampler_function, asked, x, sigmas, **options, **sampler.extra_options)
            return run.result()

    image = masked_latent("sd3")
    custom(tiny, "sd3", comfy.samplers.KSAMPLER(elsewhere), sigmas_of(tiny, 4), latent_image=image)
    assert any("the picture can change outside the mask" in line for line in warned(caplog))


def test_a_mask_class_of_another_pack_is_the_one_that_is_called(pack, monkeypatch):
    """As LanPaint's: it keeps the guider, counts its calls and asks it more than once for a step."""
    import comfy.samplers

    tiny, made = model("sd3"), []

    class Thinking:
        def __init__(self, guider, sigmas):
            self.inner_model, self.sigmas, self.calls, self.levels = guider, sigmas, 0, []
            made.append(self)

        def __call__(self, x, sigma, denoise_mask, model_options=None, seed=None):
            self.calls += 1
            self.levels.append(float(sigma[0]))
            kept = 1.0 - denoise_mask
            model = self.inner_model.inner_model
            for _ in range(2):
                shown = model.scale_latent_inpaint(
                    x=x, sigma=sigma, noise=self.noise, latent_image=self.latent_image, denoise_mask=denoise_mask
                )
                x = x * denoise_mask + shown * kept
                out = self.inner_model(x, sigma, model_options=model_options or {}, seed=seed)
            return out * denoise_mask + self.latent_image * kept

    solver, asked = random_solver(pack, sigmas_of(tiny, 5)), []
    watch_network(tiny, lambda x, sigma: asked.append(float(sigma[0])))
    monkeypatch.setattr(comfy.samplers, "KSamplerX0Inpaint", Thinking)
    image, plan = masked_latent("sd3"), solver.plan()
    end = custom(tiny, "sd3", call("DyWeightSampler", solver=solver), solver.sigmas.float(), latent_image=image)
    assert made[-1].calls == 5
    assert made[-1].levels == plan.sigmas[:-1].float().tolist()
    assert asked == [query for query in plan.query_sigmas.float().tolist() for _ in range(2)]
    assert difference(end.chunk(2, dim=-1)[0], image["samples"].chunk(2, dim=-1)[0]) < ROUNDING


@pytest.mark.parametrize("name", [name for name, _, _ in PRESETS[:1]])
def test_the_scheduler_finds_the_family_behind_a_plain_function(pack, name):
    """A node of another pack that asks for the schedule, several calls deep."""
    import comfy.samplers

    def deeper(model, steps):
        return (lambda: comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "dyweight", steps))()

    tiny = model("flux")
    solver = call("DyWeightLoadSolver", solver_name=name).solver
    assert torch.equal(deeper(tiny, solver.steps), solver.sigmas.float())
