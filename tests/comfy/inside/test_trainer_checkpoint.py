"""The trainer's checkpoints that ComfyUI loads: found by name, asked and sampled as ComfyUI does it."""

import sys

import pytest
import sampling_tools as tools
import tiny_models
import torch
from safetensors.torch import save_file
from sample_solvers import speaking


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Weights and conditions of each tiny model as files: (model, conditions) by family."""
    folder, made = tmp_path_factory.mktemp("models"), {}
    for family in tools.FAMILIES:
        save_file(tiny_models.state_dict(family), folder / f"{family}.safetensors")
        tensors = {}
        for prefix, seeds in (("", (1, 3)), ("negative_", (2,))):
            rows = [tiny_models.conditioning(family, seed)[0] for seed in seeds]
            tensors[f"{prefix}cross_attn"] = torch.cat([cross for cross, _ in rows])
            if "pooled_output" in rows[0][1]:
                tensors[f"{prefix}pooled"] = torch.cat([extra["pooled_output"] for _, extra in rows])
        save_file(tensors, folder / f"{family}-conditions.safetensors")
        made[family] = (folder / f"{family}.safetensors", folder / f"{family}-conditions.safetensors")
    return made


@pytest.fixture(params=tools.FAMILIES)
def family(request):
    tools.model(request.param)  # skips where this ComfyUI does not know the tiny one
    return request.param


def checkpoint(trainer, files, family, **options):
    from trainer.checkpoints.comfy.options import ComfyOptions

    model, conditions = files[family]
    given = {"conditioning": conditions, "width": 64, "cfg": 1.0, "guidance": 3.5 if family == "flux" else None}
    return trainer.ComfyCheckpoint(model, ComfyOptions(**{**given, **options}), None)


def drawn(made, batch=2, seed=0):
    return made.draw(torch.Generator().manual_seed(seed), batch)


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_an_answer_is_the_guiders(trainer, files, family, cfg):
    """What ComfyUI's own euler gets in its first call from the same latent, prompt and guidance."""
    import comfy.samplers

    made = checkpoint(trainer, files, family, cfg=cfg)
    answers = []

    def first_answer(model, x, sigmas, extra_args=None, callback=None, disable=None):
        answers.append((x.clone(), model(x, sigmas[0] * x.new_ones(1), **extra_args)))
        return x

    sampler = comfy.samplers.KSAMPLER(first_answer)
    unit = torch.randn(1, *made.shape, generator=torch.Generator().manual_seed(9))
    tools.guided(tools.model(family), family, sampler, made.schedule(4).float(), unit, cfg)
    x, expected = answers[0]
    with torch.inference_mode():
        found = made.denoise(x, made.schedule(4)[:1].float(), torch.tensor([0]))
    assert torch.allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_a_batch_of_prompts_is_its_members_one_by_one(trainer, files, family):
    made = checkpoint(trainer, files, family, cfg=3.0)
    noise, _ = drawn(made, 3)
    sigma, prompts = made.schedule(4)[1].float().expand(3), torch.tensor([0, 1, 0])
    with torch.inference_mode():
        whole = made.denoise(noise, sigma, prompts)
        single = [made.denoise(noise[i : i + 1], sigma[i : i + 1], prompts[i : i + 1]) for i in range(3)]
    assert not torch.allclose(single[0], single[1], atol=1e-3)
    assert torch.allclose(whole, torch.cat(single), rtol=1e-4, atol=1e-4)


def test_conditions_without_texts_have_no_captions(trainer, files, family):
    assert checkpoint(trainer, files, family).captions(torch.tensor([1])) is None


def test_noise_and_schedule_are_comfyuis(trainer, files, family):
    made = checkpoint(trainer, files, family)
    noise, _ = drawn(made, 64)
    sigmas = made.schedule(6)
    assert torch.allclose(sigmas.float(), tools.sigmas_of(tools.model(family), 6, made.scheduler))
    expected = float(sigmas[0]) if made.prediction_type == "flow" else float((1 + sigmas[0] ** 2) ** 0.5)
    assert float(noise.std()) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "uni_pc"])
def test_a_rival_is_comfyuis_own_run(trainer, files, sampler):
    """The endpoint equals that of the sampler node, from the same noise."""
    made = checkpoint(trainer, files, "sd3")
    unit = torch.randn(1, *made.shape, generator=torch.Generator().manual_seed(4))
    sigmas = tools.sigmas_of(tools.model("sd3"), 6)
    with torch.inference_mode():
        found, calls = made.sample_with(sampler, "simple", 6, unit * float(sigmas[0]), torch.tensor([0]))
    if sampler != "uni_pc":  # which asks for one step more and leaves the last but one out
        latent = tools.guided(tools.model("sd3"), "sd3", tools.select(sampler), sigmas, unit)
        assert torch.allclose(found, tools.model("sd3").model.process_latent_in(latent), rtol=1e-4, atol=1e-4)
    assert calls == 6


def test_the_endpoint_of_the_trainer_is_that_of_the_node(pack, trainer, files, family, tmp_path):
    """The file that the trainer writes gives in KSamplerAdvanced, from the same noise, what it gave in the trainer."""
    import dyweight

    made = checkpoint(trainer, files, family)
    solver = dyweight.DyWeight(made.schedule(5), 3).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    solver.weights += 0.05 * torch.randn(solver.weights.shape, generator=generator) * (solver.weights != 0)
    solver.time_scale += 0.02 * torch.randn(5, generator=generator)
    unit = torch.randn(1, *made.shape, generator=torch.Generator().manual_seed(2))
    sampling = tools.model(family).get_model_object("model_sampling")
    scaled = sampling.noise_scaling(made.schedule(5)[0].float(), unit, torch.zeros_like(unit), True)
    with torch.inference_mode():
        trained = dyweight.sample(lambda x, s: made.denoise(x, s, torch.zeros(1).long()), scaled, solver.plan())
    path = tmp_path / "solver.safetensors"
    dyweight.save_solver(solver, path, {})
    loaded = pack.dyweight.load_solver(path)
    applied = tools.call("DyWeightApply", model=tools.model(family), solver=loaded)
    sampled = tools.guided(applied, family, tools.select("dyweight"), solver.sigmas.float(), unit)
    sampled = tools.model(family).model.process_latent_in(sampled)
    assert torch.allclose(sampled, trained, rtol=1e-4, atol=1e-4 * float(trained.abs().max()))


def test_gradients_agree_with_finite_differences(trainer, files):
    made = checkpoint(trainer, files, "sd3")
    noise, prompts = drawn(made, 1)
    sigma = made.schedule(4)[1].float().expand(1)
    direction = torch.randn(noise.shape, generator=torch.Generator().manual_seed(3))
    x = noise.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad((made.denoise(x, sigma, prompts) * direction).sum(), x)
    step = 1e-2
    with torch.inference_mode():
        up, down = (made.denoise(noise + s * direction, sigma, prompts) for s in (step, -step))
    expected = float(((up - down) * direction).sum() / (2 * step))
    assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-2)


def test_less_memory_means_smaller_batches_and_then_an_error(trainer, files, monkeypatch):
    from trainer.run.errors import CheckpointError

    made = checkpoint(trainer, files, "sd3")
    noise, _ = drawn(made, 4)
    sigma, prompts = made.schedule(4)[1].float().expand(4), torch.tensor([0, 1, 0, 1])
    whole = made.denoise(noise, sigma, prompts).detach()
    inside, sizes = made._guided[0].inside, []

    def limited(texts, x, run, sigmas=None):
        sizes.append(len(x))
        if len(x) > limit:
            raise torch.OutOfMemoryError("no memory")
        return inside(texts, x, run, sigmas)

    monkeypatch.setattr(made._guided[0], "inside", limited)
    limit = 1
    assert torch.allclose(made.denoise(noise, sigma, prompts).detach(), whole, rtol=1e-4, atol=1e-4)
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    limit = 0
    with pytest.raises(CheckpointError, match="out of memory with one sample"):
        made.denoise(noise, sigma, prompts)


def test_where_memory_ends_each_part_of_a_batch_is_asked_at_its_own_levels(pack, trainer, files, monkeypatch):
    from trainer.compare.endpoint_error import endpoint
    from trainer.pairs.pairs import Block
    from trainer.run.network import Network

    made = checkpoint(trainer, files, "sd3")
    solver = speaking(pack, "indis", "sd3", made.schedule(5).float())
    noise, prompts = drawn(made, 4, seed=2)
    block, inside = Block(0, noise, prompts, noise), made._guided[0].inside
    whole = endpoint(Network(made), block, solver)

    def small(texts, x, *rest):
        if len(x) > 1:
            raise torch.OutOfMemoryError
        return inside(texts, x, *rest)

    monkeypatch.setattr(made._guided[0], "inside", small)
    asked = sys.modules["trainer.checkpoints.comfy.asked"]
    monkeypatch.setattr(asked, "_out_of_memory", lambda: torch.OutOfMemoryError)
    assert tools.difference(endpoint(Network(made), block, solver), whole) < 5e-6


def test_what_changes_the_answers_changes_the_fingerprint(trainer, files):
    plain = checkpoint(trainer, files, "sd3")
    same = checkpoint(trainer, files, "sd3")
    others = [
        checkpoint(trainer, files, "sd3", cfg=3.0),
        checkpoint(trainer, files, "sd3", shift=5.0),
        checkpoint(trainer, files, "sd3", width=128),
        checkpoint(trainer, files, "sd3", dtype="bf16"),
        checkpoint(trainer, files, "sd3", scheduler="beta"),
    ]
    assert plain.fingerprint == same.fingerprint
    assert len({made.fingerprint for made in (plain, *others)}) == 6
    assert float(others[1].schedule(4)[1]) > float(plain.schedule(4)[1])


def test_names_are_found_and_refused_with_what_there_is(trainer, files, user_files, tmp_path):
    import folder_paths

    from trainer.checkpoints.comfy.installation import find_model
    from trainer.run.errors import CheckpointError

    for name in ("flux1-dev.safetensors", "sub/flux1-dev.safetensors", "wan.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    folder_paths.add_model_folder_path("diffusion_models", str(tmp_path))
    folder_paths.filename_list_cache.clear()
    assert find_model("wan") == tmp_path / "wan.safetensors"
    assert find_model("FLUX1-dev.safetensors") == tmp_path / "flux1-dev.safetensors"
    assert find_model(str(files["sd3"][0])) == files["sd3"][0]
    with pytest.raises(CheckpointError, match=r"several files match: .*flux1-dev.*give one path"):
        find_model("flux1-dev")
    with pytest.raises(CheckpointError, match=r"no such file .* did you mean wan"):
        find_model("wam")


@pytest.mark.parametrize("family", ["sd15", "sd3"])
def test_it_tells_both_predictions_and_evaluates_what_is_asked_for(trainer, files, family):
    made = checkpoint(trainer, files, family, cfg=4.0)
    noise, prompts = drawn(made)
    states, rows = made.schedule(4)[:-1].float(), []
    sigma = states[1].expand(2)
    tools.watch_network(made._loaded.patcher, lambda x, sigma: rows.append(len(x)))
    with torch.inference_mode():
        conditional, unconditional = made.predictions_at(noise, sigma, prompts, states, 1, True)
        both = sum(rows)
        alone, none = made.predictions_at(noise, sigma, prompts, states, 1, False)
        assert (both, sum(rows) - both, none) == (4, 2, None)
        guided = made.denoise_at(noise, sigma, prompts, states, 1)
    assert tools.difference(alone, conditional) < 1e-5
    assert tools.difference(unconditional + 4.0 * (conditional - unconditional), guided) < 1e-5
    assert tools.difference(conditional, unconditional) > 1e-4


@pytest.mark.parametrize("family", ["sd15", "sd3"])
def test_learned_guidance_ends_in_the_node_where_it_ends_in_the_trainer(pack, trainer, files, family):
    import dyweight
    from trainer.compare.endpoint_error import endpoint
    from trainer.pairs.targets import Block
    from trainer.run.network import Network

    made = checkpoint(trainer, files, family, cfg=4.0)
    noise, prompts = drawn(made, batch=1)
    guidance = {"cfg": 7.5, "guided": [0, 2]}  # made for another cfg than that at hand
    solver = dyweight.DyWeight(made.schedule(4), 3, learned_guidance=guidance).requires_grad_(False)
    solver.time_scale.mul_(0.98)
    network = Network(made, per_call=2)
    trained = endpoint(network, Block(0, noise, prompts * 0, noise), solver)
    assert network.total == solver.evaluations == 6
    own = pack.dyweight.DyWeight.from_file(solver.settings(), solver.tensors())
    unit = noise.cpu() / float(solver.sigmas[0]) if family == "sd15" else noise.cpu()
    tiny, ends = tools.model(family), []

    def kept(model, x, sigmas, extra_args=None, callback=None, disable=None):
        run = tools.call("DyWeightSampler", solver=own)
        end = run.sampler_function(model, noise, sigmas, extra_args, callback, disable, **run.extra_options)
        ends.append(end)
        return end

    import comfy.samplers

    tools.guided(tiny, family, comfy.samplers.KSAMPLER(kept), solver.sigmas.float(), unit, 4.0)
    assert tools.difference(ends[0], trained) < 2e-5
