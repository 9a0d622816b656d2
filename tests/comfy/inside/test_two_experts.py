"""Two networks for one model, as in Wan 2.2: fitted as one, sampled by two KSamplers with one file on both."""

import pytest
import sampling_tools as tools
import tiny_models
import torch
from safetensors.torch import save_file
from test_samples_trainer import SEED

STEPS, BOUNDARY = 5, 0.875


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experts")
    for name, seed in (("high", 0), ("low", 7)):
        save_file(tiny_models.state_dict("wan", seed), folder / f"{name}.safetensors")
    ((text, _),) = tiny_models.conditioning("wan", SEED)
    save_file({"cross_attn": text}, folder / "conditions.safetensors")
    return folder


@pytest.fixture
def made(trainer, files):
    from trainer.checkpoints.comfy.options import ComfyOptions

    given = {"conditioning": files / "conditions.safetensors", "width": 64, "frames": 9, "cfg": 1.0}
    options = ComfyOptions(**given, ckpt_low="low", boundary=BOUNDARY)
    return trainer.ComfyCheckpoint(files / "high.safetensors", options, None, files / "low.safetensors")


@pytest.fixture
def models(files):
    import comfy.sd

    return [comfy.sd.load_diffusion_model(str(files / f"{name}.safetensors")) for name in ("high", "low")]


def solver_for(pack, made):
    solver = pack.dyweight.DyWeight(made.schedule(STEPS), schedule=made.schedule_recipe)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        moved = 0.05 * torch.randn(solver.weights.shape, generator=generator, dtype=torch.float64)
        solver.weights += (solver.weights != 0) * moved
        solver.time_scale += 0.02 * torch.randn(STEPS, generator=generator, dtype=torch.float64)
    return solver.requires_grad_(False)


def in_two_samplers(models, cut, noise, **options):
    """The latent at the end of two KSamplers (Advanced), the first on the first model."""
    common = {"cfg": 1.0, "positive": tiny_models.conditioning("wan", SEED), "steps": STEPS, "family": "wan", **options}
    first = {"add_noise": "enable", "end_at_step": cut, "return_with_leftover_noise": "enable"}
    half = tools.advanced(models[0], **common, **first)
    second = {"add_noise": "disable", "start_at_step": cut, "latent_image": {"samples": half}}
    return models[0].model.process_latent_in(tools.advanced(models[1], **common, **second))


def noise_of(made):
    """What KSampler (Advanced) draws for the seed of `advanced`."""
    return torch.randn(1, *made.shape, generator=torch.manual_seed(3))


def endpoint_of(made, solver):
    from trainer.compare.endpoint_error import endpoint
    from trainer.pairs.pairs import Block
    from trainer.run.network import Network

    noise = noise_of(made)
    return endpoint(Network(made), Block(0, noise, torch.zeros(1).long(), noise), solver)


def test_two_samplers_with_one_file_end_where_the_fit_ends(pack, made, models):
    solver = solver_for(pack, made)
    assert solver.handover == made._experts.split(made.schedule(STEPS)) > 1
    states = solver.plan().sigmas
    file = tools.in_file(pack, solver, "wan-2.2-5", {"model_family": "WAN21_T2V"})
    applied = [tools.call("DyWeightApply", model=model, solver=file) for model in models]
    sampled = in_two_samplers(applied, solver.handover, noise_of(made))
    trained = endpoint_of(made, solver)
    print(f"two experts, learned states {states.tolist()}: {tools.difference(sampled, trained):.1e}")
    assert tools.difference(sampled, trained) < 5e-6
    other = in_two_samplers([applied[0], applied[0]], solver.handover, noise_of(made))
    assert tools.difference(other, trained) > 1e-2  # the second network does something


def test_one_sampler_that_asks_both_ends_there_too(pack, made):
    """The networks change at the step of the schedule, also where a learned time is still above the boundary."""
    solver = solver_for(pack, made)
    with torch.no_grad():
        solver.weights[solver.handover - 1, 0] -= 0.6  # a smaller step: the next state stays above the boundary
    plan = solver.plan()
    assert float(plan.sigmas[solver.handover]) > BOUNDARY
    noise, prompts = noise_of(made), torch.zeros(1).long()
    asked = []
    for guided, name in zip(made._guided, ("high", "low"), strict=True):
        inside = guided.inside
        guided.inside = lambda *given, inside=inside, name=name: (asked.append(name), inside(*given))[1]
    import dyweight

    row = iter(range(STEPS))
    states = plan.sigmas[:-1]
    dyweight.sample(lambda x, sigma: made.denoise_at(x, sigma, prompts, states, next(row)), noise, plan)
    assert asked == ["high"] * solver.handover + ["low"] * (STEPS - solver.handover)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
def test_a_rival_is_two_samplers_of_comfyui(made, models, sampler):
    with torch.inference_mode():
        found, calls = made.sample_with(sampler, "simple", STEPS, noise_of(made), torch.zeros(1).long())
    cut = made._experts.split(made.schedule(STEPS))
    sampled = in_two_samplers(models, cut, noise_of(made), sampler_name=sampler, scheduler="simple")
    assert calls == STEPS and tools.difference(sampled, found) < 5e-6


@pytest.mark.parametrize(("name", "rows"), [("euler", 6), ("heun", 9), ("dpm_solver_2", 9)])
def test_a_handcrafted_solver_goes_by_the_level_of_each_call(made, name, rows):
    import dyweight

    plan = dyweight.baselines.plan(name, made.schedule(-(-rows // (1 if name == "euler" else 2))))
    assert plan.rows == rows
    for row in range(rows):
        expected = int(plan.sigmas[row] < BOUNDARY)
        assert made._experts.of_row(plan.sigmas[:-1], row).tolist() == [expected]


def test_samples_on_both_sides_are_asked_apart(made):
    noise, prompts = noise_of(made).expand(2, *made.shape), torch.zeros(2).long()
    with torch.inference_mode():
        both = made.denoise(noise, torch.tensor([0.95, 0.5]), prompts)
        alone = [made.denoise(noise[:1], torch.tensor([level]), prompts[:1]) for level in (0.95, 0.5)]
    assert torch.equal(both, torch.cat(alone)) and not torch.allclose(both[:1], both[1:], rtol=0.1)


def test_the_file_and_the_fingerprint_tell_both(trainer, files, made):
    from trainer.checkpoints.comfy.options import ComfyOptions

    assert made.schedule_recipe["boundary"] == made.made_for["boundary"] == BOUNDARY
    assert made.made_for["model_low"] == "low"
    given = {"conditioning": files / "conditions.safetensors", "width": 64, "frames": 9, "cfg": 1.0}
    alone = trainer.ComfyCheckpoint(files / "high.safetensors", ComfyOptions(**given), None)
    other = ComfyOptions(**given, ckpt_low="low", boundary=0.9)
    moved = trainer.ComfyCheckpoint(files / "high.safetensors", other, None, files / "low.safetensors")
    assert len({made.fingerprint, alone.fingerprint, moved.fingerprint}) == 3


@pytest.mark.parametrize("other", [False, True])
def test_either_half_is_the_model_of_the_file_and_another_is_not(pack, made, models, caplog, other):
    solver = solver_for(pack, made)
    file = tools.in_file(pack, solver, "wan-known", {"sketch": made.sketch()})
    if other:
        models[1] = tools.model("wan")
        tools.answer_with(models[1], lambda x, sigma: 0.3 * x)
    applied = [tools.call("DyWeightApply", model=model, solver=file) for model in models]
    in_two_samplers(applied, solver.handover, noise_of(made))
    assert ("wan-known was made for another model of this family" in caplog.text) == other


@pytest.mark.parametrize("lacking", [0, 1])
def test_the_log_says_which_half_lacks_the_file(pack, made, models, user_files, caplog, lacking):
    solver = solver_for(pack, made)
    file = tools.in_file(pack, solver, f"wan-lacking-{lacking}")
    applied = list(models)
    applied[1 - lacking] = tools.call("DyWeightApply", model=models[1 - lacking], solver=file)
    cut = solver.handover
    common = {
        "cfg": 1.0,
        "positive": tiny_models.conditioning("wan", SEED),
        "steps": STEPS,
        "noise_seed": 100 + lacking,
    }
    first = {"add_noise": "enable", "end_at_step": cut, "return_with_leftover_noise": "enable"}
    own = {"sampler_name": "euler", "scheduler": "simple"} if lacking == 0 else {}
    half = tools.advanced(applied[0], "wan", **common, **first, **own)
    second = {"add_noise": "disable", "start_at_step": cut, "latent_image": {"samples": half}}
    tools.advanced(applied[1], "wan", **common, **second, **({} if lacking == 0 else {"scheduler": "simple"}))
    said = {
        0: f"Give the model of the high noise levels wan-lacking-{lacking} too",
        1: f"Give this model wan-lacking-{lacking} too",
    }
    assert said[lacking] in caplog.text and said[1 - lacking].split(" wan-")[0] not in caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ckpt_low": "low"}, "--boundary: give it too"),
        ({"boundary": 0.9}, "--ckpt-low: give it too"),
        ({"lora_low": ("a",)}, "--lora-low a is for --ckpt-low"),
        ({"ckpt_low": "low", "boundary": -1.0}, "--boundary is -1.0"),
    ],
)
def test_options_that_do_not_belong_together_are_named(trainer, options, said):
    from trainer.checkpoints.comfy.options import ComfyOptions
    from trainer.run.errors import TrainerError

    with pytest.raises(TrainerError, match=said):
        ComfyOptions(**options)


def test_another_model_as_the_second_is_refused(trainer, files, tmp_path):
    from trainer.checkpoints.comfy.options import ComfyOptions
    from trainer.run.errors import CheckpointError

    save_file(tiny_models.state_dict("sd3"), tmp_path / "sd3.safetensors")
    given = {"conditioning": files / "conditions.safetensors", "width": 64, "frames": 9, "cfg": 1.0}
    options = ComfyOptions(**given, ckpt_low="sd3", boundary=BOUNDARY)
    with pytest.raises(CheckpointError, match=r"--ckpt-low .*sd3"):
        trainer.ComfyCheckpoint(files / "high.safetensors", options, None, tmp_path / "sd3.safetensors")
