"""A coefficient file in the pipelines of diffusers gives what the sampling loop gives on the same network."""

import pytest
import torch

import dyweight
from dyweight.placement import place
from tests.dyweight.conftest import flow

WITHOUT = "diffusers is not installed, so its scheduler is NOT TESTED: pip install diffusers transformers"
tiny = pytest.importorskip("tests.tiny_pipelines", reason=WITHOUT)
DyWeightScheduler = pytest.importorskip("dyweight.diffusers", reason=WITHOUT).DyWeightScheduler

ROUNDING = 4e-6
"""float32 sums in another order, after a handful of network calls."""
FLOWS = ("flux", "stable_diffusion_3", "qwen_image", "wan")
STEPS = 4


def learned(sigmas, spread=0.1, **settings):
    """A solver with weights and time scales away from 1, as a learned one has."""
    solver, generator = dyweight.DyWeight(sigmas, **settings), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in (solver.weights, solver.time_scale):
            value += (value != 0) * spread * torch.randn(value.shape, generator=generator, dtype=torch.float64)
    return solver.requires_grad_(False)


def discrete(steps=STEPS):
    return dyweight.schedules.vp_discrete(steps)


@pytest.fixture
def scheduler(tmp_path):
    """Writes a file that says this of its solver, and reads it."""

    def made(solver, prediction="flow", config=None):
        said = {"prediction_type": prediction} if prediction else {}
        dyweight.save_solver(solver, tmp_path / "solver.safetensors", said)
        return DyWeightScheduler.from_file(tmp_path / "solver.safetensors", config)

    return made


def noise_for(model, batch=2):
    return torch.randn(batch, *model.shape, generator=torch.Generator().manual_seed(3))


def run(model, scheduler, steps=STEPS, **inputs):
    """The endpoint of a pipeline."""
    model.pipe.scheduler = scheduler
    model.pipe.set_progress_bar_config(disable=True)
    given = {**model.inputs, "num_inference_steps": steps, "output_type": "latent", "return_dict": False, **inputs}
    return model.pipe(**given)[0]


def expected(model, plan, x, predicts="flow", callback=None):
    """The endpoint of the sampling loop, with the textbook's clean x of what the network says."""

    def denoise(x, sigma):
        said, sigma = model.output(x, sigma), sigma.reshape(-1, *[1] * (x.ndim - 1))
        if predicts == "v":
            return x / (1 + sigma**2) - said * sigma / (1 + sigma**2).sqrt()
        return x - sigma * said

    with torch.inference_mode():
        return dyweight.sample(denoise, x, plan, callback)


def difference(one, other):
    assert one.shape == other.shape
    return float((one.float() - other).abs().max() / other.abs().max())


@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize("family", FLOWS)
def test_the_pipeline_of_a_flow_model_ends_where_the_loop_ends(scheduler, family, with_config):
    model, solver = getattr(tiny, family)(batch=2), learned(flow(STEPS))
    noise, config = noise_for(model), model.pipe.scheduler.config
    end = run(model, scheduler(solver, config=config if with_config else None), latents=noise.clone())
    assert difference(end, expected(model, solver.plan(), noise)) < ROUNDING
    assert difference(end, expected(model, dyweight.baselines.plan("euler", flow(STEPS)), noise)) > 1e-3


@pytest.mark.parametrize(("word", "predicts"), [("epsilon", "eps"), ("v_prediction", "v")])
def test_stable_diffusion_ends_where_the_loop_ends_from_the_noise_that_comfyui_makes(scheduler, word, predicts):
    model, solver = tiny.stable_diffusion(batch=2, predicts=word), learned(discrete())
    noise = noise_for(model)
    end = run(model, scheduler(solver, predicts, model.pipe.scheduler.config), latents=noise.clone())
    start = noise * (1 + solver.sigmas[0].float() ** 2).sqrt()
    assert difference(end, expected(model, solver.plan(), start, predicts)) < ROUNDING
    other = {"eps": "v", "v": "eps"}[predicts]
    assert difference(end, expected(model, solver.plan(), start, other)) > 1e-3


def test_betas_are_those_of_the_replaced_scheduler(scheduler):
    config = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "_class_name": "DDIMScheduler"}
    config["_use_default_values"] = ["beta_start", "beta_end", "beta_schedule"]
    kept = torch.cumprod(1 - torch.linspace(0.0001, 0.02, 1000, dtype=torch.float64), 0)
    sigmas = ((1 - kept) / kept).sqrt()[[999, 700, 400, 100]]
    solver = dyweight.DyWeight(torch.cat([sigmas, torch.zeros(1)])).requires_grad_(False)
    assert scheduler(solver, "eps", config).timesteps.tolist() == [999, 700, 400, 100]
    assert scheduler(solver, "eps").timesteps.tolist() != [999, 700, 400, 100]


def test_noise_is_scaled_as_comfyui_scales_it(scheduler):
    """By sqrt(1 + sigma^2) where the run begins at the model's highest level, else by sigma."""
    top = discrete()
    assert scheduler(learned(top), "eps").init_noise_sigma == pytest.approx(float(1 + top[0] ** 2) ** 0.5)
    assert scheduler(learned(top / 2), "eps").init_noise_sigma == pytest.approx(float(top[0]) / 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: learned(flow(STEPS), order=2, slope="query"),
        lambda: dyweight.FreeTable(flow(STEPS)).requires_grad_(False),
        lambda: dyweight.LearnedSchedule(flow(STEPS), base="heun").requires_grad_(False),
    ],
    ids=["query slopes", "free table", "two calls a step"],
)
def test_solvers_of_every_shared_table_run(scheduler, make):
    model, solver = tiny.flux(batch=2), make()
    noise, made = noise_for(model), scheduler(solver)
    assert difference(run(model, made, latents=noise), expected(model, solver.plan(), noise)) < ROUNDING
    assert len(made.timesteps) == solver.network_calls and made.num_inference_steps == STEPS


def test_each_state_is_that_of_the_loop_and_a_callback_may_change_it(scheduler):
    model, solver = tiny.flux(), learned(flow(STEPS))
    noise, seen, states = noise_for(model, 1), [], []
    expected(model, solver.plan(), noise, callback=lambda call: states.append(call.x.clone()))

    def look(pipe, i, t, tensors):
        seen.append(tensors["latents"].clone())
        return {}

    end = run(model, scheduler(solver), latents=noise, callback_on_step_end=look)
    assert all(difference(mine, state) < ROUNDING for mine, state in zip(seen, states[1:], strict=False))

    def change(pipe, i, t, tensors):
        return {"latents": tensors["latents"] + (0.5 if i == STEPS - 1 else 0)}

    assert difference(run(model, scheduler(solver), latents=noise, callback_on_step_end=change) - 0.5, end) < ROUNDING


def test_the_next_run_does_not_remember_the_last(scheduler):
    model, made = tiny.flux(batch=2), scheduler(learned(flow(STEPS)))
    noise = noise_for(model)
    first = run(model, made, latents=noise)
    run(model, made, latents=noise + 1)
    assert torch.equal(run(model, made, latents=noise), first)


def test_a_batch_equals_its_members(scheduler):
    model, alone, made = tiny.flux(batch=2), tiny.flux(batch=1), scheduler(learned(flow(STEPS)))
    noise = noise_for(model)
    alone.inputs |= {name: value[1:] for name, value in model.inputs.items() if torch.is_tensor(value)}
    assert difference(run(alone, made, latents=noise[1:]), run(model, made, latents=noise)[1:]) < ROUNDING


def test_bfloat16_stays_as_near_to_float32_as_with_euler(scheduler):
    model, solver, errors = tiny.flux(), learned(flow(STEPS), 0.03), []
    noise, euler = noise_for(model, 1), model.pipe.scheduler
    for sampler in (scheduler(solver), euler):
        exact = run(model, sampler, latents=noise)
        model.pipe.to(torch.bfloat16)
        low = {name: value.bfloat16() for name, value in model.inputs.items() if torch.is_tensor(value)}
        end = run(model, sampler, latents=noise.bfloat16(), **low)
        assert end.dtype == torch.bfloat16
        errors.append(difference(end, exact))
        model.pipe.to(torch.float32)
    print(f"bfloat16: {errors}")
    assert 0 < errors[0] < 2 * errors[1]


def set_of(*steps):
    return dyweight.SolverSet([learned(flow(n), 0.03) for n in steps])


def test_a_set_has_a_solver_for_each_of_its_steps_and_mixes_between_them(scheduler):
    model, solvers = tiny.flux(batch=2), set_of(3, 5)
    noise, made = noise_for(model), scheduler(solvers)
    for steps in (3, 5):
        plan = solvers.member(steps).plan()
        assert difference(run(model, made, steps, latents=noise), expected(model, plan, noise)) < ROUNDING
    mixed = place(solvers, solvers.sigmas_for(4)).plan
    assert difference(run(model, made, 4, latents=noise), expected(model, mixed, noise)) < ROUNDING
    with pytest.raises(ValueError, match="set num_inference_steps to 3 or 5: this file has no solver for 28 steps"):
        run(model, made, 28, latents=noise)


@pytest.mark.parametrize(
    "suggested",
    [
        {"num_inference_steps": 5},
        {"sigmas": [1, 0.8, 0.6, 0.4, 0.2], "mu": 1.15},
        {"sigmas": [9, 5, 3, 2, 1, 0]},
        {"timesteps": [999, 700, 400, 100, 0]},
    ],
    ids=str,
)
def test_of_a_suggested_schedule_only_its_length_counts(scheduler, suggested):
    made = scheduler(set_of(3, 5))
    made.set_timesteps(**suggested)
    plan = learned(flow(5), 0.03).plan()
    assert made.timesteps.tolist() == pytest.approx((1000 * plan.query_sigmas).tolist())
    assert made.sigmas.tolist() == pytest.approx(plan.sigmas.tolist())


@pytest.mark.parametrize(("scale", "warned"), [(1.0, 0), (0.9, 1)])
def test_a_step_that_would_ask_the_other_of_two_networks_is_named(scheduler, monkeypatch, scale, warned):
    """Sigmas 1, 0.9, 0.75, 0.5: the second network takes over after the first two."""
    from dyweight import diffusers

    said = []
    monkeypatch.setattr(diffusers.logger, "warning", said.append)
    solver = dyweight.DyWeight(flow(STEPS), initial="euler", schedule={"boundary": 0.875}).requires_grad_(False)
    solver.time_scale[1] *= scale
    scheduler(solver)
    assert len(said) == warned and all("0.875" in text for text in said)


def test_the_config_holds_the_file_and_comes_back_with_the_pipeline(scheduler, tmp_path):
    model, solver = tiny.flux(batch=2), learned(flow(STEPS))
    noise, made = noise_for(model), scheduler(solver, config=model.pipe.scheduler.config)
    end = run(model, made, latents=noise)
    made.save_pretrained(tmp_path / "scheduler")
    assert torch.equal(run(model, DyWeightScheduler.from_pretrained(tmp_path / "scheduler"), latents=noise), end)
    model.pipe.save_pretrained(tmp_path / "pipe")
    model.pipe = type(model.pipe).from_pretrained(tmp_path / "pipe", **dict.fromkeys(WITHOUT_TEXT))
    assert type(model.pipe.scheduler) is DyWeightScheduler
    assert torch.equal(run(model, model.pipe.scheduler, latents=noise), end)


def test_the_config_of_the_replaced_scheduler_is_kept_for_the_next(scheduler):
    from diffusers import FlowMatchEulerDiscreteScheduler

    before = FlowMatchEulerDiscreteScheduler(shift=7.0, base_shift=0.25)
    after = FlowMatchEulerDiscreteScheduler.from_config(scheduler(learned(flow(STEPS)), config=before.config).config)
    assert {name: after.config[name] for name in before.config} == dict(before.config)


WITHOUT_TEXT = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "image_encoder")


def image_to_image(pipeline, x, strength):
    """(a model whose pipeline begins at a picture, what it is given, the same without its noise)."""
    given = {"image": x, "strength": strength, "generator": torch.Generator().manual_seed(7)}
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(7))
    model = (tiny.flux if "Flux" in pipeline else tiny.stable_diffusion)(pipeline=pipeline)
    return model, given, noise


@pytest.mark.parametrize(("strength", "first"), [(1.0, 0), (0.75, 1), (0.5, 2), (0.25, 3)])
def test_image_to_image_runs_the_last_rows_by_the_rules_of_placement(scheduler, strength, first):
    picture = 0.5 * torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(5))
    model, given, noise = image_to_image("FluxImg2ImgPipeline", picture, strength)
    solver = learned(flow(STEPS))
    end = run(model, scheduler(solver), **given)
    level = float(solver.plan().sigmas[first])
    start = model.pipe._pack_latents(picture * (1 - level) + noise * level, 1, 16, 8, 8)
    plan = place(solver, solver.sigmas[first:], level).plan
    assert plan.rows == STEPS - first
    assert difference(end, expected(model, plan, start)) < ROUNDING


@pytest.mark.parametrize(("strength", "first"), [(0.75, 1), (0.5, 2)])
def test_image_to_image_of_stable_diffusion(scheduler, strength, first):
    picture = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    model, given, noise = image_to_image("StableDiffusionImg2ImgPipeline", picture, strength)
    solver = learned(discrete())
    end = run(model, scheduler(solver, "eps", model.pipe.scheduler.config), **given)
    level = float(solver.plan().sigmas[first])
    plan = place(solver, solver.sigmas[first:], level).plan
    assert difference(end, expected(model, plan, picture + level * noise, "eps")) < ROUNDING


def test_noise_is_added_at_the_state_that_comes_next(scheduler):
    """As pipelines that keep a part of a picture ask it after each step."""
    solver, picture, noise = learned(flow(STEPS)), torch.ones(1, 3), torch.full((1, 3), 5.0)
    made, levels = scheduler(solver), solver.plan().sigmas.tolist()
    made.set_begin_index(1)
    assert made.scale_noise(picture, made.timesteps[:1], noise)[0, 0] == pytest.approx(1 + 4 * levels[1])
    for row in (2, 3):
        made.step(noise, made.timesteps[row - 1], picture)
        assert made.add_noise(picture, noise, made.timesteps[:1])[0, 0] == pytest.approx(1 + 4 * levels[row])
        assert (made.begin_index, made.step_index) == (1, row)


def test_files_for_another_prediction_are_refused(scheduler):
    sd, flux = tiny.stable_diffusion(), tiny.flux()
    with pytest.raises(ValueError, match=r"take a file .*kind flow, and the model's are epsilon"):
        scheduler(learned(flow(STEPS)), "flow", sd.pipe.scheduler.config)
    with pytest.raises(ValueError, match=r"take a file .*kind v, and the model's are epsilon"):
        scheduler(learned(discrete()), "v", sd.pipe.scheduler.config)
    for model in (flux, tiny.wan()):
        with pytest.raises(ValueError, match=r"take a file .*kind eps, and the model's are flow_prediction"):
            scheduler(learned(discrete()), "eps", model.pipe.scheduler.config)
    with pytest.raises(ValueError, match=r"take a file .*for flow models"):
        run(sd, scheduler(learned(flow(STEPS))))
    with pytest.raises(ValueError, match=r"take a file .*kind eps, and this pipeline does not scale"):
        run(flux, scheduler(learned(discrete()), "eps"))
    with pytest.raises(ValueError, match=r"predicts eps, v or flow: this one says 'edm'"):
        scheduler(learned(flow(STEPS)), "edm")
    with pytest.raises(ValueError, match=r"give from_file the pipe\.scheduler\.config"):
        scheduler(learned(flow(STEPS)), None)


def test_a_file_that_does_not_say_its_prediction_takes_the_models(scheduler):
    model, solver = tiny.flux(batch=2), learned(flow(STEPS))
    noise = noise_for(model)
    end = run(model, scheduler(solver, None, model.pipe.scheduler.config), latents=noise)
    assert difference(end, expected(model, solver.plan(), noise)) < ROUNDING


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: dyweight.Indis(flow(STEPS), shape=(16, 8, 8)), "family: indis .*no prompt reaches a scheduler"),
        (lambda: learned(discrete(), analytic_first_step=True), "without an analytic first step"),
    ],
    ids=["per sample", "analytic"],
)
def test_what_can_not_run_in_diffusers_is_refused(scheduler, make, said):
    with pytest.raises(ValueError, match=said):
        scheduler(make().requires_grad_(False))


def test_image_to_image_with_two_calls_a_step_is_refused(scheduler):
    made = scheduler(dyweight.LearnedSchedule(flow(STEPS), base="heun").requires_grad_(False))
    made.set_begin_index(0)
    with pytest.raises(ValueError, match="set strength to 1"):
        made.set_begin_index(2)
