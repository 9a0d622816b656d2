"""Solvers with a table for each sample give in ComfyUI what the plain loop gives on the tables of those samples."""

import logging

import pytest
import tiny_models
import torch
from sample_solvers import KINDS, STEPS, condition_of, for_model, of_plan, plain, speaking
from sampling_tools import (
    FAMILIES,
    advanced,
    answer_with,
    call,
    custom,
    difference,
    guided,
    in_file,
    latent,
    model,
    random_solver,
    save,
    select,
    sigmas_of,
    textbook,
    untrained,
    warned,
)

ROUNDING = 5e-6
each_kind = pytest.mark.parametrize("kind", KINDS)
each_family = pytest.mark.parametrize("family", FAMILIES)


def drawn(family, batch=3):
    return torch.randn(batch, *tiny_models.LATENT[family], generator=torch.Generator().manual_seed(4))


def gaussian(x, sigma):
    """The exact answer of a flow model of unit-variance data, whatever the prompt."""
    sigma = sigma.reshape(-1, *[1] * (x.ndim - 1))
    return x * (1 - sigma) / ((1 - sigma) ** 2 + sigma**2) if float(sigma.max()) <= 1 else x / (1 + sigma**2)


def seen_by(pack, tiny, family, solver, positive, batch=1):
    """What the nodes tell a solver of the samples, read while ComfyUI samples."""
    import comfy.samplers

    found = []

    def look(model, x, sigmas, extra_args=None, callback=None, disable=None):
        around = pack.nodes.wrapped.hidden(model, comfy.samplers.KSamplerX0Inpaint)
        found.append((pack.nodes.samples.read_samples(solver, around, x), x))
        return x

    guider = call("CFGGuider", model=tiny, positive=positive, negative=positive, cfg=1.0)
    sampler, sigmas = comfy.samplers.KSAMPLER(look), solver.sigmas.float()
    with torch.inference_mode():
        guider.sample(drawn(family, batch), drawn(family, batch) * 0, sampler, sigmas, disable_pbar=True, seed=3)
    return found[0]


@pytest.mark.parametrize(("batch", "cfg"), [(1, 1.0), (3, 1.0), (3, 4.0)])
@each_kind
@each_family
def test_both_samplers_give_the_plain_loop(pack, family, kind, batch, cfg):
    tiny = model(family)
    solver = for_model(pack, kind, family, tiny)
    sigmas, empty = solver.sigmas.float(), latent(family, batch)
    loop = plain(pack, solver, condition_of(pack, tiny_models.conditioning(family)), batch)
    expected = custom(tiny, family, loop, sigmas, latent_image=empty, cfg=cfg)
    sampler = call("DyWeightSampler", solver=solver)
    in_custom = custom(tiny, family, sampler, sigmas, latent_image=empty, cfg=cfg)
    applied = call("DyWeightApply", model=tiny, solver=solver)
    in_advanced = advanced(applied, family, STEPS, latent_image=empty, cfg=cfg)
    print(f"{family} {kind} {batch}: {difference(in_custom, expected):.1e} {difference(in_advanced, expected):.1e}")
    assert difference(in_custom, expected) < cfg * ROUNDING
    assert difference(in_advanced, expected) < cfg * ROUNDING
    shared = custom(tiny, family, of_plan(pack, solver.plan()), sigmas, latent_image=empty, cfg=cfg)
    assert difference(expected, shared) > 100 * ROUNDING


@each_kind
@each_family
def test_a_batch_is_its_members_one_by_one(pack, family, kind):
    tiny, noise = model(family), drawn(family)
    solver = for_model(pack, kind, family, tiny)
    sampler, sigmas = call("DyWeightSampler", solver=solver), solver.sigmas.float()
    together = guided(tiny, family, sampler, sigmas, noise)
    for i in range(3):
        alone = guided(tiny, family, sampler, sigmas, noise[i : i + 1])
        assert difference(together[i : i + 1], alone) < 10 * ROUNDING


@each_family
def test_the_noise_is_the_latent_at_the_first_sigma(pack, family):
    tiny = model(family)
    solver = for_model(pack, "indis", family, tiny)
    told, x = seen_by(pack, tiny, family, solver, tiny_models.conditioning(family), batch=2)
    assert difference(told["noise"] * float(solver.sigmas[0]), x) < ROUNDING


@each_family
def test_the_condition_is_that_of_the_first_positive_text(pack, family):
    tiny = model(family)
    solver = for_model(pack, "indis", family, tiny)
    one, other = (tiny_models.conditioning(family, seed) for seed in (1, 2))
    told, _ = seen_by(pack, tiny, family, solver, one, batch=3)
    assert torch.allclose(told["condition"], condition_of(pack, one).expand(3, -1), atol=1e-6)
    assert difference(condition_of(pack, one), condition_of(pack, other)) > 0.1
    several, _ = seen_by(pack, tiny, family, solver, other + one)
    assert torch.allclose(several["condition"], condition_of(pack, other), atol=1e-6)


def test_fewer_texts_than_samples_go_round_as_comfyui_does_it(pack):
    tiny = model("sd3")
    solver = for_model(pack, "indis", "sd3", tiny)
    one, other = (tiny_models.conditioning("sd3", seed) for seed in (1, 2))
    rows = [condition_of(pack, text) for text in (one, other)]
    pooled = torch.cat([text[0][1]["pooled_output"] for text in (one, other)])
    both = [[torch.cat([one[0][0], other[0][0]]), {"pooled_output": pooled}]]
    for batch, expected in ((1, [0]), (2, [0, 1]), (3, [0, 1, 0])):
        told, _ = seen_by(pack, tiny, "sd3", solver, both, batch)
        assert torch.allclose(told["condition"], torch.cat([rows[i] for i in expected]), atol=1e-6)


@each_kind
def test_without_a_text_it_samples_on_the_noise_alone(pack, kind):
    tiny, noise = model("wan"), drawn("wan", 2)
    answer_with(tiny, gaussian)
    solver = for_model(pack, kind, "wan", tiny)
    sigmas = solver.sigmas.float()
    guider = call("CFGGuider", model=tiny, positive=[[None, {}]], negative=[[None, {}]], cfg=1.0)
    ends = []
    for sampler in (call("DyWeightSampler", solver=solver), plain(pack, solver, None, 2)):
        with torch.inference_mode():
            ends.append(guider.sample(noise, noise * 0, sampler, sigmas, disable_pbar=True, seed=3))
    assert difference(*ends) < ROUNDING


@each_kind
def test_a_guider_without_a_positive_samples_on_the_noise_alone(pack, kind):
    import comfy.samplers

    class OnlyOne(comfy.samplers.CFGGuider):
        """A guider of another pack, with a name of its own for its text."""

        def predict_noise(self, x, timestep, model_options=None, seed=None):
            only = self.conds["only"]
            return comfy.samplers.calc_cond_batch(self.inner_model, [only], x, timestep, model_options or {})[0]

    tiny, noise = model("sd3"), drawn("sd3", 2)
    solver, guider = for_model(pack, kind, "sd3", tiny), OnlyOne(tiny)
    guider.inner_set_conds({"only": tiny_models.conditioning("sd3")})
    ends = []
    for sampler in (call("DyWeightSampler", solver=solver), plain(pack, solver, None, 2)):
        with torch.inference_mode():
            ends.append(guider.sample(noise, noise * 0, sampler, solver.sigmas.float(), disable_pbar=True, seed=3))
    assert difference(*ends) < ROUNDING


@pytest.mark.parametrize("base", ["ipndm", "dpmpp_2m", "heun"])
@each_family
def test_untrained_indis_is_its_base_solver(pack, family, base):
    tiny = model(family)
    solver = for_model(pack, "indis", family, tiny, loud=0.0, base=base)
    loop = of_plan(pack, pack.dyweight.baselines.plan(base, solver.sigmas))
    empty, sigmas = latent(family, 2), solver.sigmas.float()
    ends = [
        custom(tiny, family, sampler, sigmas, latent_image=empty)
        for sampler in (call("DyWeightSampler", solver=solver), loop)
    ]
    assert difference(*ends) < ROUNDING
    if base in ("dpmpp_2m", "heun"):  # ComfyUI's ipndm asks for a step more
        assert difference(ends[0], custom(tiny, family, select(base), sigmas, latent_image=empty)) < 10 * ROUNDING


@each_family
def test_untrained_corrections_are_the_dyweight(pack, family):
    tiny = model(family)
    solver = for_model(pack, "instance-dyweight", family, tiny, loud=0.0)
    empty, sigmas = latent(family, 2), solver.sigmas.float()
    end = custom(tiny, family, call("DyWeightSampler", solver=solver), sigmas, latent_image=empty)
    assert difference(end, custom(tiny, family, textbook(solver.dyweight), sigmas, latent_image=empty)) < ROUNDING


@each_kind
def test_a_file_is_loaded_listed_and_found_like_any_other(pack, user_files, kind, caplog):
    caplog.set_level(logging.INFO, "DyWeight")
    tiny, empty = model("sd3"), latent("sd3", 2)
    solver = speaking(pack, kind, "sd3", pack.dyweight.schedules.flow(4, shift=5.0))
    save(pack, user_files / f"{kind}-file.safetensors", solver, model_family="SD3")
    loop = plain(pack, solver, condition_of(pack, tiny_models.conditioning("sd3")), 2)
    expected = custom(tiny, "sd3", loop, solver.sigmas.float(), latent_image=empty)
    loaded = call("DyWeightLoadSolver", solver_name=f"{kind}-file.safetensors")
    applied = call("DyWeightApply", model=tiny, solver=loaded)
    assert difference(advanced(applied, "sd3", 4, latent_image=empty), expected) < ROUNDING
    assert torch.equal(sigmas_of(tiny, 4, "dyweight"), solver.sigmas.float())
    assert difference(advanced(tiny, "sd3", 4, latent_image=empty), expected) < ROUNDING
    assert f"sampling with the solver {kind}-file.safetensors" in caplog.text


@each_kind
def test_a_file_for_another_text_encoder_is_not_taken_by_itself(pack, user_files, kind):
    tiny, empty = model("sd3"), latent("sd3", 2)
    solver = for_model(pack, kind, "sd3", tiny, condition_width=17)
    save(pack, user_files / "other-encoder.safetensors", solver, model_family="SD3")
    sigmas = solver.sigmas.float()
    end = custom(tiny, "sd3", select("dyweight"), sigmas, latent_image=empty)
    assert difference(end, custom(tiny, "sd3", untrained(pack, sigmas), sigmas, latent_image=empty)) < ROUNDING


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condition_width": 17}, "the condition has 88 numbers, this solver was made for 17"),
        ({"shape": (4, 8, 8)}, r"the latent has shape \[16, 8, 8\], this solver was made for 4 channels"),
        ({"shape": (16, 3, 8, 8)}, r"the latent has shape \[16, 8, 8\], this solver was made for 16 channels and 3"),
    ],
)
@each_kind
def test_a_wrong_text_encoder_or_latent_is_an_error_with_the_name_of_the_file(pack, kind, options, message):
    tiny = model("sd3")
    solver = for_model(pack, kind, "sd3", tiny, **options)
    solver = in_file(pack, solver, "made-elsewhere")
    with pytest.raises(ValueError, match=f"^made-elsewhere can't run here: {message}"):
        advanced(call("DyWeightApply", model=tiny, solver=solver), "sd3", STEPS)


@pytest.mark.parametrize("base", ["ipndm", "heun"])
def test_progress_and_preview_come_once_a_step(pack, base):
    tiny, told = model("sd3"), []
    solver = for_model(pack, "indis", "sd3", tiny, base=base)
    sampler, noise = call("DyWeightSampler", solver=solver), drawn("sd3")
    guided(tiny, "sd3", sampler, solver.sigmas.float(), noise, callback=lambda *step: told.append(step))
    assert [(i, total) for i, _, _, total in told] == [(i, STEPS) for i in range(STEPS)]
    assert all(denoised.shape == x.shape == noise.shape for _, denoised, x, _ in told)


@each_kind
def test_a_larger_picture_than_the_file_was_made_for_gets_the_schedule_of_its_noise(pack, kind):
    tiny = model("sd3")
    solver = for_model(pack, kind, "sd3", tiny)
    empty, sigmas = {"samples": torch.zeros(2, 16, 16, 24)}, solver.sigmas.float()
    loop = plain(pack, solver, condition_of(pack, tiny_models.conditioning("sd3")), 2)
    ends = [
        custom(tiny, "sd3", sampler, sigmas, latent_image=empty)
        for sampler in (call("DyWeightSampler", solver=solver), loop)
    ]
    assert difference(*ends) < ROUNDING


@pytest.mark.parametrize("options", [{"instance": False}, {"condition_width": 0}, {"shift_factors": False}], ids=str)
@each_kind
def test_a_network_that_reads_less_gives_the_plain_loop_without_a_warning(pack, kind, options, caplog):
    tiny, noise = model("sd3"), drawn("sd3", 1)
    solver = for_model(pack, kind, "sd3", tiny, **options)
    loop = plain(pack, solver, condition_of(pack, tiny_models.conditioning("sd3")), 1)
    sigmas = solver.sigmas.float()
    ends = [guided(tiny, "sd3", s, sigmas, noise) for s in (call("DyWeightSampler", solver=solver), loop)]
    assert difference(*ends) < ROUNDING
    assert not warned(caplog)


def test_two_models_with_two_solvers_do_not_know_of_each_other(pack):
    tiny = model("sd3")
    solvers = [for_model(pack, "indis", "sd3", tiny, seed=seed) for seed in (0, 1)]
    solvers.append(random_solver(pack, sigmas_of(tiny, STEPS)))
    applied = [call("DyWeightApply", model=tiny, solver=solver) for solver in solvers]
    before = [advanced(one, "sd3", STEPS) for one in applied]
    assert all(torch.equal(advanced(one, "sd3", STEPS), end) for one, end in zip(applied, before, strict=True))
    assert difference(before[0], before[1]) > 0.01 < difference(before[0], before[2])
