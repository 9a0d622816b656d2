"""What phi was fitted to hear in the trainer is what it hears in ComfyUI, and both end at the same latent."""

import pytest
import sampling_tools as tools
import tiny_models
import torch
from safetensors.torch import save_file
from sample_solvers import KINDS, speaking

SEED = 1
"""Of the text, in the trainer and in ComfyUI."""


@pytest.fixture(params=tools.FAMILIES)
def family(request):
    tools.model(request.param)  # skips where this ComfyUI does not know the tiny one
    return request.param


@pytest.fixture
def checkpoint(trainer, family, tmp_path):
    from trainer.checkpoints.comfy.options import ComfyOptions

    ((text, extra),) = tiny_models.conditioning(family, SEED)
    tensors = {"cross_attn": text} | ({"pooled": extra["pooled_output"]} if extra else {})
    save_file(tensors, tmp_path / "conditions.safetensors")
    save_file(tiny_models.state_dict(family), tmp_path / "model.safetensors")
    given = {"conditioning": tmp_path / "conditions.safetensors", "width": 64, "cfg": 1.0}
    return trainer.ComfyCheckpoint(tmp_path / "model.safetensors", ComfyOptions(**given), None)


def heard(pack, family, solver, unit, conditioning):
    """Noise at the first sigma and condition, as the nodes tell them to a solver."""
    import comfy.samplers

    found = []

    def look(model, x, sigmas, extra_args=None, callback=None, disable=None):
        around = pack.nodes.wrapped.hidden(model, comfy.samplers.KSamplerX0Inpaint)
        found.append(pack.nodes.samples.read_samples(solver, around, x))
        return x

    guider = tools.call("BasicGuider", model=tools.model(family), conditioning=conditioning)
    with torch.inference_mode():
        sampler = comfy.samplers.KSAMPLER(look)
        guider.sample(unit, unit * 0, sampler, solver.sigmas.float(), disable_pbar=True, seed=3)
    return found[0]["noise"] * float(solver.sigmas[0]), found[0]["condition"]


def test_noise_and_condition_are_the_trainers(pack, checkpoint, family):
    solver = speaking(pack, "indis", family, checkpoint.schedule(5))
    noise, prompts = checkpoint.draw(torch.Generator().manual_seed(2), 3)
    unit = torch.randn(3, *checkpoint.shape, generator=torch.Generator().manual_seed(2))
    found, condition = heard(pack, family, solver, unit, tiny_models.conditioning(family, SEED))
    torch.testing.assert_close(found, noise, rtol=1e-6, atol=1e-6 * float(noise.abs().max()))
    torch.testing.assert_close(condition, checkpoint.condition(prompts), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_the_endpoints_of_the_trainer_are_those_of_the_nodes(pack, checkpoint, family, kind, user_files):
    """Through a file in models/dyweight, for a batch of three noises."""
    from trainer.compare.endpoint_error import endpoint
    from trainer.pairs.targets import Block
    from trainer.run.network import Network

    solver = speaking(pack, kind, family, checkpoint.schedule(5))
    pack.dyweight.save_solver(solver, user_files / "made.safetensors", {})
    noise, prompts = checkpoint.draw(torch.Generator().manual_seed(2), 3)
    trained = endpoint(Network(checkpoint), Block(0, noise, prompts, noise), solver)
    loaded = tools.call("DyWeightLoadSolver", solver_name="made.safetensors")
    unit = torch.randn(3, *checkpoint.shape, generator=torch.Generator().manual_seed(2))
    tiny = tools.call("DyWeightApply", model=tools.model(family), solver=loaded)
    sampled = tools.guided(tiny, family, tools.select("dyweight"), solver.sigmas.float(), unit)
    sampled = tiny.model.process_latent_in(sampled)
    print(f"{family} {kind}: {tools.difference(sampled, trained):.1e}")
    assert tools.difference(sampled, trained) < 2e-6
