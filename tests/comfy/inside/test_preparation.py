"""A sampling run of the trainer inside ComfyUI's guider."""

import sys
from pathlib import Path

import pytest
import tiny_models
import torch
from sampling_tools import latent, model


@pytest.fixture
def network(pack):
    """A function that makes the trainer's network of a MODEL, with guidance."""
    sys.path.append(str(Path(pack.__file__).parent))
    import comfy.samplers

    from trainer.checkpoints.comfy.canvas import CanvasCheckpoint
    from trainer.run.network import Network

    def made(patcher):
        guider = comfy.samplers.CFGGuider(patcher)
        guider.set_conds(tiny_models.conditioning("sd3"), tiny_models.conditioning("sd3", seed=2))
        guider.set_cfg(4.0)
        positive = [tiny_models.conditioning("sd3", seed=seed) for seed in (1, 3)]
        return Network(CanvasCheckpoint("tiny", guider, positive, latent("sd3"), "simple"))

    return made


def sampled(network):
    """(endpoints, the same with each call on its own)"""
    from dyweight import baselines, sample

    noise, cond = network.checkpoint.draw(torch.Generator().manual_seed(0), 2)
    plan = baselines.plan("ipndm", network.checkpoint.schedule(3))
    ends = network.sample(noise, cond, plan)
    with torch.inference_mode():
        return ends, sample(network.bound(cond, plan=plan), noise, plan)


def test_a_run_sets_the_guider_up_once(network, monkeypatch):
    from trainer.checkpoints.comfy.guided import Guided

    made, begun, inside = network(model("sd3")), [], Guided.inside
    monkeypatch.setattr(Guided, "inside", lambda *given: (begun.append(1), inside(*given))[1])
    ends, one_by_one = sampled(made)
    assert torch.equal(ends, one_by_one)
    assert len(begun) == 1 + 3


def test_a_run_that_is_too_large_begins_again_in_smaller_batches(network):
    import comfy.model_management

    if comfy.model_management.OOM_EXCEPTION is Exception:
        pytest.skip("this system has no error of its own for memory that ran out")
    asked = []

    def apply(apply_model, options):
        asked.append(len(options["input"]))
        if asked[-1] > 2 and len(asked) > 1:  # a sample is asked with its prompt and without
            raise comfy.model_management.OOM_EXCEPTION
        return apply_model(options["input"], options["timestep"], **options["c"])

    small = model("sd3")
    small.set_model_unet_function_wrapper(apply)
    ends, _ = sampled(network(small))
    whole, _ = sampled(network(model("sd3")))
    assert asked[:3] == [4, 4, 4] and min(asked) == 2
    assert torch.allclose(ends, whole, atol=1e-4)


def test_an_error_of_the_run_passes_and_leaves_the_guider_free(network):
    made = network(model("sd3"))
    noise, cond = made.checkpoint.draw(torch.Generator().manual_seed(0), 2)

    def stopped():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.checkpoint.prepared(noise, cond, stopped)
    ends, one_by_one = sampled(made)
    assert torch.equal(ends, one_by_one)
