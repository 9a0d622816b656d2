"""A network that is told the next noise level (mean flow) answers for an interval: no velocity to fit or to combine."""

import types

import pytest
import sampling_tools as tools
import tiny_models
import torch
from safetensors.torch import save_file
from test_samples_trainer import SEED

FAMILY = "hunyuan"


def test_the_trainer_refuses_it_with_the_reason(trainer, tmp_path):
    from trainer.checkpoints.comfy.options import ComfyOptions
    from trainer.run.errors import CheckpointError

    ((text, extra),) = tiny_models.conditioning(FAMILY, SEED)
    save_file({"cross_attn": text, "pooled": extra["pooled_output"]}, tmp_path / "conditions.safetensors")
    save_file(tiny_models.state_dict(FAMILY), tmp_path / "model.safetensors")
    options = ComfyOptions(conditioning=tmp_path / "conditions.safetensors", width=64)
    with pytest.raises(CheckpointError, match=r"undistilled model.*answers for an interval \(mean flow"):
        trainer.ComfyCheckpoint(tmp_path / "model.safetensors", options, None)


def told(network, run):
    """(result, the noise levels and the next ones that the network was told)."""
    now, following = [], []
    hooks = [
        network.register_forward_pre_hook(lambda module, args: now.append(float(args[1][0]) / 1000)),
        network.time_r_in.register_forward_pre_hook(lambda module, args: following.append(args[0].clone())),
    ]
    result = run()
    for hook in hooks:
        hook.remove()
    return result, now, following


@pytest.mark.parametrize("slope", ["state", "query"])
def test_a_file_runs_without_its_time_scaling_and_the_log_says_so(pack, slope, caplog):
    tiny = tools.model(FAMILY)
    sigmas = tools.sigmas_of(tiny, 5)
    solver = tools.random_solver(pack, sigmas, slope=slope)
    plain = pack.dyweight.DyWeight(sigmas.double(), slope=slope, time_scaling=False).requires_grad_(False)
    plain.weights.copy_(solver.weights)
    states = plain.plan().sigmas
    assert not torch.allclose(solver.plan().query_sigmas, states[:-1], rtol=1e-3)

    def run(learned):
        learned = tools.in_file(pack, learned, f"for an interval, {slope}")
        applied = tools.call("DyWeightApply", model=tiny, solver=learned)
        return told(tiny.model.diffusion_model, lambda: tools.advanced(applied, FAMILY, 5))

    end, now, following = run(solver)
    assert now == pytest.approx(states[:-1].tolist(), rel=1e-6) and len(following) == 5
    assert tools.difference(end, run(plain)[0]) < 2e-6
    (line,) = [line for line in tools.said(caplog) if "answers for an interval" in line]
    assert "HunyuanVideo" in line and "without its time scaling" in line


def test_output_layers_for_parts_of_the_schedule_are_recognised(pack):
    """As newer versions of ComfyUI load them for MiniMax H3: more rows than the network gives numbers."""
    find = pack.comfyui.facts.answers_for_interval

    def model(rows):
        head = types.SimpleNamespace(weight=torch.zeros(rows, 3), out_features=8)
        return types.SimpleNamespace(
            diffusion_model=types.SimpleNamespace(final_layer=types.SimpleNamespace(video_out=head))
        )

    assert find(model(8)) is None and "PDD" in find(model(32))
    assert find(tools.model("sd3").model) is None and find(None) is None
