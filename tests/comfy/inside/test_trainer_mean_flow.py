"""A network that is told the next noise level (mean flow) is fitted as it is sampled."""

import sampling_tools as tools
import tiny_models
import torch
from safetensors.torch import save_file
from sample_solvers import speaking
from test_samples_trainer import SEED, trainer  # noqa: F401

FAMILY = "hunyuan"


def checkpoint(trainer, folder, family=FAMILY):  # noqa: F811
    from trainer.checkpoints.comfy.options import ComfyOptions

    ((text, extra),) = tiny_models.conditioning(family, SEED)
    save_file({"cross_attn": text, "pooled": extra["pooled_output"]}, folder / "conditions.safetensors")
    save_file(tiny_models.state_dict(family), folder / "model.safetensors")
    given = {"conditioning": folder / "conditions.safetensors", "width": 64, "cfg": 1.0}
    return trainer.ComfyCheckpoint(folder / "model.safetensors", ComfyOptions(**given), None)


def told_by(network, run):
    """(result, the next levels that the network was told)."""
    told = []
    hook = network.time_r_in.register_forward_pre_hook(lambda module, args: told.append(args[0].clone()))
    result = run()
    hook.remove()
    return result, told


def test_the_trainer_and_the_nodes_end_at_the_same_latent_and_tell_the_same_levels(pack, trainer, tmp_path):  # noqa: F811
    from trainer.compare.endpoint_error import endpoint
    from trainer.pairs.pairs import Block
    from trainer.run.network import Network

    made = checkpoint(trainer, tmp_path)
    solver = tools.random_solver(pack, made.schedule(5).float())
    noise, prompts = made.draw(torch.Generator().manual_seed(2), 2)
    trained, in_trainer = told_by(
        made._loaded.patcher.model.diffusion_model,
        lambda: endpoint(Network(made), Block(0, noise, prompts, noise), solver),
    )
    tiny, unit = tools.model(FAMILY), torch.randn(2, *made.shape, generator=torch.Generator().manual_seed(2))
    sampler, sigmas = tools.call("DyWeightSampler", solver=solver), solver.sigmas.float()
    sampled, in_comfyui = told_by(tiny.model.diffusion_model, lambda: tools.guided(tiny, FAMILY, sampler, sigmas, unit))
    assert len(in_trainer) == len(in_comfyui) == 5
    for one, other in zip(in_trainer, in_comfyui, strict=True):
        assert torch.equal(one, other)
    assert tools.difference(tiny.model.process_latent_in(sampled), trained) < 2e-6


def test_where_memory_ends_each_part_of_a_batch_is_asked_at_its_own_levels(pack, trainer, tmp_path, monkeypatch):  # noqa: F811
    """Not with mean flow: ComfyUI tells a batch the next level of its first sample."""
    from trainer.compare.endpoint_error import endpoint
    from trainer.pairs.pairs import Block
    from trainer.run.network import Network

    made = checkpoint(trainer, tmp_path, "sd3")
    solver = speaking(pack, "indis", "sd3", made.schedule(5).float())
    noise, prompts = made.draw(torch.Generator().manual_seed(2), 4)
    block, inside = Block(0, noise, prompts, noise), made._inside
    whole = endpoint(Network(made), block, solver)

    def small(positive, x, *rest):
        if len(x) > 1:
            raise torch.OutOfMemoryError
        return inside(positive, x, *rest)

    monkeypatch.setattr(made, "_inside", small)
    monkeypatch.setattr(trainer, "_out_of_memory", lambda: torch.OutOfMemoryError)
    assert tools.difference(endpoint(Network(made), block, solver), whole) < 5e-6
