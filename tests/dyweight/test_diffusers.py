"""A coefficient file in the pipelines of diffusers gives what the sampling loop gives on the same network."""

import pytest
import torch

import dyweight
from dyweight.placement import place
from tests.dyweight.conftest import flow

WITHOUT = "diffusers is not installed, so its scheduler is NOT TESTED: pip install diffusers transformers"
tiny = pytest.importorskip("tests.tiny_pipelines", reason=WITHOUT)

ROUNDING = 4e-6
"""float32 sums in another order, after a handful of network calls."""
FLOWS = ("flux", "stable_diffusion_3", "qwen_image", "wan")
STEPS = tiny.STEPS


def discrete(steps=STEPS):
    return dyweight.schedules.vp_discrete(steps)


@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize("family", FLOWS)
def test_the_pipeline_of_a_flow_model_ends_where_the_loop_ends(family, with_config):
    model, solver = getattr(tiny, family)(batch=2), tiny.learned(flow(STEPS))
    noise, config = tiny.noise_for(model), model.pipe.scheduler.config
    end = tiny.run(model, tiny.scheduler(solver, config=config if with_config else None), latents=noise.clone())
    assert tiny.difference(end, tiny.expected(model, solver.plan(), noise)) < ROUNDING
    assert tiny.difference(end, tiny.expected(model, dyweight.baselines.plan("euler", flow(STEPS)), noise)) > 1e-3


@pytest.mark.parametrize(("word", "predicts"), [("epsilon", "eps"), ("v_prediction", "v")])
def test_stable_diffusion_ends_where_the_loop_ends_from_the_noise_that_comfyui_makes(word, predicts):
    model, solver = tiny.stable_diffusion(batch=2, predicts=word), tiny.learned(discrete())
    noise = tiny.noise_for(model)
    end = tiny.run(model, tiny.scheduler(solver, predicts, model.pipe.scheduler.config), latents=noise.clone())
    start = noise * (1 + solver.sigmas[0].float() ** 2).sqrt()
    assert tiny.difference(end, tiny.expected(model, solver.plan(), start, predicts)) < ROUNDING
    other = {"eps": "v", "v": "eps"}[predicts]
    assert tiny.difference(end, tiny.expected(model, solver.plan(), start, other)) > 1e-3


def test_betas_are_those_of_the_replaced_scheduler():
    config = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "_class_name": "DDIMScheduler"}
    config["_use_default_values"] = ["beta_start", "beta_end", "beta_schedule"]
    kept = torch.cumprod(1 - torch.linspace(0.0001, 0.02, 1000, dtype=torch.float64), 0)
    sigmas = ((1 - kept) / kept).sqrt()[[999, 700, 400, 100]]
    solver = dyweight.DyWeight(torch.cat([sigmas, torch.zeros(1)])).requires_grad_(False)
    assert tiny.scheduler(solver, "eps", config).timesteps.tolist() == [999, 700, 400, 100]
    assert tiny.scheduler(solver, "eps").timesteps.tolist() != [999, 700, 400, 100]


def test_noise_is_scaled_as_comfyui_scales_it():
    """By sqrt(1 + sigma^2) where the run begins at the model's highest level, else by sigma."""
    top = discrete()
    assert tiny.scheduler(tiny.learned(top), "eps").init_noise_sigma == pytest.approx(float(1 + top[0] ** 2) ** 0.5)
    assert tiny.scheduler(tiny.learned(top / 2), "eps").init_noise_sigma == pytest.approx(float(top[0]) / 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny.learned(flow(STEPS), order=2, slope="query"),
        lambda: dyweight.FreeTable(flow(STEPS)).requires_grad_(False),
        lambda: dyweight.LearnedSchedule(flow(STEPS), base="heun").requires_grad_(False),
    ],
    ids=["query slopes", "free table", "two calls a step"],
)
def test_solvers_of_every_shared_table_run(make):
    model, solver = tiny.flux(batch=2), make()
    noise, made = tiny.noise_for(model), tiny.scheduler(solver)
    assert tiny.difference(tiny.run(model, made, latents=noise), tiny.expected(model, solver.plan(), noise)) < ROUNDING
    assert len(made.timesteps) == solver.network_calls and made.num_inference_steps == STEPS


def test_each_state_is_that_of_the_loop_and_a_callback_may_change_it():
    model, solver = tiny.flux(), tiny.learned(flow(STEPS))
    noise, seen, states = tiny.noise_for(model, 1), [], []
    tiny.expected(model, solver.plan(), noise, callback=lambda call: states.append(call.x.clone()))

    def look(pipe, i, t, tensors):
        seen.append(tensors["latents"].clone())
        return {}

    end = tiny.run(model, tiny.scheduler(solver), latents=noise, callback_on_step_end=look)
    assert all(tiny.difference(mine, state) < ROUNDING for mine, state in zip(seen, states[1:], strict=False))

    def change(pipe, i, t, tensors):
        return {"latents": tensors["latents"] + (0.5 if i == STEPS - 1 else 0)}

    assert (
        tiny.difference(tiny.run(model, tiny.scheduler(solver), latents=noise, callback_on_step_end=change) - 0.5, end)
        < ROUNDING
    )


def test_the_next_run_does_not_remember_the_last():
    model, made = tiny.flux(batch=2), tiny.scheduler(tiny.learned(flow(STEPS)))
    noise = tiny.noise_for(model)
    first = tiny.run(model, made, latents=noise)
    tiny.run(model, made, latents=noise + 1)
    assert torch.equal(tiny.run(model, made, latents=noise), first)


def test_a_batch_equals_its_members():
    model, alone, made = tiny.flux(batch=2), tiny.flux(batch=1), tiny.scheduler(tiny.learned(flow(STEPS)))
    noise = tiny.noise_for(model)
    alone.inputs |= {name: value[1:] for name, value in model.inputs.items() if torch.is_tensor(value)}
    assert (
        tiny.difference(tiny.run(alone, made, latents=noise[1:]), tiny.run(model, made, latents=noise)[1:]) < ROUNDING
    )


def test_bfloat16_stays_as_near_to_float32_as_with_euler():
    model, solver, errors = tiny.flux(), tiny.learned(flow(STEPS), 0.03), []
    noise, euler = tiny.noise_for(model, 1), model.pipe.scheduler
    for sampler in (tiny.scheduler(solver), euler):
        exact = tiny.run(model, sampler, latents=noise)
        model.pipe.to(torch.bfloat16)
        low = {name: value.bfloat16() for name, value in model.inputs.items() if torch.is_tensor(value)}
        end = tiny.run(model, sampler, latents=noise.bfloat16(), **low)
        assert end.dtype == torch.bfloat16
        errors.append(tiny.difference(end, exact))
        model.pipe.to(torch.float32)
    print(f"bfloat16: {errors}")
    assert 0 < errors[0] < 2 * errors[1]


def image_to_image(pipeline, x, strength):
    """(a model whose pipeline begins at a picture, what it is given, the same without its noise)."""
    given = {"image": x, "strength": strength, "generator": torch.Generator().manual_seed(7)}
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(7))
    model = (tiny.flux if "Flux" in pipeline else tiny.stable_diffusion)(pipeline=pipeline)
    return model, given, noise


@pytest.mark.parametrize(("strength", "first"), [(1.0, 0), (0.75, 1), (0.5, 2), (0.25, 3)])
def test_image_to_image_runs_the_last_rows_by_the_rules_of_placement(strength, first):
    picture = 0.5 * torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(5))
    model, given, noise = image_to_image("FluxImg2ImgPipeline", picture, strength)
    solver = tiny.learned(flow(STEPS))
    end = tiny.run(model, tiny.scheduler(solver), **given)
    level = float(solver.plan().sigmas[first])
    start = model.pipe._pack_latents(picture * (1 - level) + noise * level, 1, 16, 8, 8)
    plan = place(solver, solver.sigmas[first:], level).plan
    assert plan.rows == STEPS - first
    assert tiny.difference(end, tiny.expected(model, plan, start)) < ROUNDING


@pytest.mark.parametrize(("strength", "first"), [(0.75, 1), (0.5, 2)])
def test_image_to_image_of_stable_diffusion(strength, first):
    picture = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    model, given, noise = image_to_image("StableDiffusionImg2ImgPipeline", picture, strength)
    solver = tiny.learned(discrete())
    end = tiny.run(model, tiny.scheduler(solver, "eps", model.pipe.scheduler.config), **given)
    level = float(solver.plan().sigmas[first])
    plan = place(solver, solver.sigmas[first:], level).plan
    assert tiny.difference(end, tiny.expected(model, plan, picture + level * noise, "eps")) < ROUNDING


def test_noise_is_added_at_the_state_that_comes_next():
    """As pipelines that keep a part of a picture ask it after each step."""
    solver, picture, noise = tiny.learned(flow(STEPS)), torch.ones(1, 3), torch.full((1, 3), 5.0)
    made, levels = tiny.scheduler(solver), solver.plan().sigmas.tolist()
    made.set_begin_index(1)
    assert made.scale_noise(picture, made.timesteps[:1], noise)[0, 0] == pytest.approx(1 + 4 * levels[1])
    for row in (2, 3):
        made.step(noise, made.timesteps[row - 1], picture)
        assert made.add_noise(picture, noise, made.timesteps[:1])[0, 0] == pytest.approx(1 + 4 * levels[row])
        assert (made.begin_index, made.step_index) == (1, row)


def test_image_to_image_with_two_calls_a_step_is_refused():
    made = tiny.scheduler(dyweight.LearnedSchedule(flow(STEPS), base="heun").requires_grad_(False))
    made.set_begin_index(0)
    with pytest.raises(ValueError, match="set strength to 1"):
        made.set_begin_index(2)
