"""What of a file reaches a pipeline of diffusers: the solver for its steps, the config, and what is refused."""

import pytest
import torch

import dyweight
from dyweight.placement import place
from tests.dyweight.conftest import flow

WITHOUT = "diffusers is not installed, so its scheduler is NOT TESTED: pip install diffusers transformers"
tiny = pytest.importorskip("tests.tiny_pipelines", reason=WITHOUT)

ROUNDING, STEPS = 4e-6, tiny.STEPS
WITHOUT_TEXT = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "image_encoder")


def discrete():
    return dyweight.schedules.vp_discrete(STEPS)


def set_of(*steps):
    return dyweight.SolverSet([tiny.learned(flow(n), 0.03) for n in steps])


def test_a_set_has_a_solver_for_each_of_its_steps_and_mixes_between_them():
    model, solvers = tiny.flux(batch=2), set_of(3, 5)
    noise, made = tiny.noise_for(model), tiny.scheduler(solvers)
    for steps in (3, 5):
        plan = solvers.member(steps).plan()
        assert (
            tiny.difference(tiny.run(model, made, steps, latents=noise), tiny.expected(model, plan, noise)) < ROUNDING
        )
    mixed = place(solvers, solvers.sigmas_for(4)).plan
    assert tiny.difference(tiny.run(model, made, 4, latents=noise), tiny.expected(model, mixed, noise)) < ROUNDING
    with pytest.raises(ValueError, match="set num_inference_steps to 3 or 5: this file has no solver for 28 steps"):
        tiny.run(model, made, 28, latents=noise)


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
def test_of_a_suggested_schedule_only_its_length_counts(suggested):
    made = tiny.scheduler(set_of(3, 5))
    made.set_timesteps(**suggested)
    plan = tiny.learned(flow(5), 0.03).plan()
    assert made.timesteps.tolist() == pytest.approx((1000 * plan.query_sigmas).tolist())
    assert made.sigmas.tolist() == pytest.approx(plan.sigmas.tolist())


@pytest.mark.parametrize(("scale", "warned"), [(1.0, 0), (0.9, 1)])
def test_a_step_that_would_ask_the_other_of_two_networks_is_named(monkeypatch, scale, warned):
    """Sigmas 1, 0.9, 0.75, 0.5: the second network takes over after the first two."""
    from dyweight import diffusers

    said = []
    monkeypatch.setattr(diffusers.logger, "warning", said.append)
    solver = dyweight.DyWeight(flow(STEPS), initial="euler", schedule={"boundary": 0.875}).requires_grad_(False)
    solver.time_scale[1] *= scale
    tiny.scheduler(solver)
    assert len(said) == warned and all("0.875" in text for text in said)


def test_the_config_holds_the_file_and_comes_back_with_the_pipeline(tmp_path):
    model, solver = tiny.flux(batch=2), tiny.learned(flow(STEPS))
    noise = tiny.noise_for(model)
    dyweight.save_solver(solver, tmp_path / "solver.safetensors", {"prediction_type": "flow"})
    made = tiny.DyWeightScheduler.from_file(tmp_path / "solver.safetensors", model.pipe.scheduler.config)
    end = tiny.run(model, made, latents=noise)
    made.save_pretrained(tmp_path / "scheduler")
    assert torch.equal(
        tiny.run(model, tiny.DyWeightScheduler.from_pretrained(tmp_path / "scheduler"), latents=noise), end
    )
    model.pipe.save_pretrained(tmp_path / "pipe")
    model.pipe = type(model.pipe).from_pretrained(tmp_path / "pipe", **dict.fromkeys(WITHOUT_TEXT))
    assert type(model.pipe.scheduler) is tiny.DyWeightScheduler
    assert torch.equal(tiny.run(model, model.pipe.scheduler, latents=noise), end)


def test_the_config_of_the_replaced_scheduler_is_kept_for_the_next_without_a_complaint(monkeypatch):
    from diffusers import FlowMatchEulerDiscreteScheduler, configuration_utils

    said = []
    monkeypatch.setattr(configuration_utils.logger, "warning", said.append)
    before = FlowMatchEulerDiscreteScheduler(shift=7.0, base_shift=0.25)
    kept = {name: value for name, value in before.config.items() if name != "_use_default_values"}
    made = tiny.scheduler(tiny.learned(flow(STEPS)), config=before.config)
    assert said == []
    another = tiny.scheduler(tiny.learned(flow(3)), config=made.config)
    assert (another.num_inference_steps, another.config.prediction_type) == (3, "flow_prediction")
    after = FlowMatchEulerDiscreteScheduler.from_config(another.config)
    assert {name: after.config[name] for name in kept} == kept


def test_files_for_another_prediction_are_refused():
    sd, flux = tiny.stable_diffusion(), tiny.flux()
    with pytest.raises(ValueError, match=r"take a file .*kind flow, and the model's are epsilon"):
        tiny.scheduler(tiny.learned(flow(STEPS)), "flow", sd.pipe.scheduler.config)
    with pytest.raises(ValueError, match=r"take a file .*kind v, and the model's are epsilon"):
        tiny.scheduler(tiny.learned(discrete()), "v", sd.pipe.scheduler.config)
    for model in (flux, tiny.wan()):
        with pytest.raises(ValueError, match=r"take a file .*kind eps, and the model's are flow_prediction"):
            tiny.scheduler(tiny.learned(discrete()), "eps", model.pipe.scheduler.config)
    with pytest.raises(ValueError, match=r"take a file .*for flow models"):
        tiny.run(sd, tiny.scheduler(tiny.learned(flow(STEPS))))
    with pytest.raises(ValueError, match=r"take a file .*kind eps, and this pipeline does not scale"):
        tiny.run(flux, tiny.scheduler(tiny.learned(discrete()), "eps"))
    with pytest.raises(ValueError, match=r"predicts eps, v or flow: this one says edm"):
        tiny.scheduler(tiny.learned(flow(STEPS)), "edm")
    with pytest.raises(ValueError, match=r"give from_file the pipe\.scheduler\.config"):
        tiny.scheduler(tiny.learned(flow(STEPS)), None)


def test_a_file_that_does_not_say_its_prediction_takes_the_models():
    model, solver = tiny.flux(batch=2), tiny.learned(flow(STEPS))
    noise = tiny.noise_for(model)
    end = tiny.run(model, tiny.scheduler(solver, None, model.pipe.scheduler.config), latents=noise)
    assert tiny.difference(end, tiny.expected(model, solver.plan(), noise)) < ROUNDING


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: dyweight.Indis(flow(STEPS), shape=(16, 8, 8)), "family: indis .*no prompt reaches a scheduler"),
        (lambda: tiny.learned(discrete(), analytic_first_step=True), "without an analytic first step"),
    ],
    ids=["per sample", "analytic"],
)
def test_what_can_not_run_in_diffusers_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        tiny.scheduler(make().requires_grad_(False))
