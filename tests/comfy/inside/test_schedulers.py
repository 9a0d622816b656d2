"""The schedulers with which a fit may begin: ComfyUI's, and its nodes that need the size of the picture."""

from pathlib import Path

import pytest
import torch
from sampling_tools import model


def offered(pack) -> list[str]:
    fit = next(node for node in pack.nodes.NODES if node.__name__ == "DyWeightFit")
    return fit.INPUT_TYPES()["required"]["scheduler"][1]["options"]


def test_the_fit_node_offers_what_this_comfyui_has(pack, request):
    import comfy.samplers

    extras = Path(request.config.getoption("comfyui")) / "comfy_extras"
    files = {"flux2": "nodes_flux.py", "ltxv": "nodes_lt.py", "ideogram4": "nodes_ideogram4.py"}
    there = [name for name, file in files.items() if (extras / file).is_file()]
    assert "flux2" in there, "the oldest ComfyUI that the tests know has it"
    assert offered(pack) == [*(name for name in comfy.samplers.SCHEDULER_NAMES if name != "dyweight"), *there]


def test_the_trainer_takes_what_the_fit_node_offers(pack, trainer):
    from trainer.checkpoints.comfy.latents import Latent
    from trainer.checkpoints.comfy.schedules import check_scheduler, schedule

    sampling = model("sd3").get_model_object("model_sampling")
    for name in offered(pack):
        check_scheduler(name)
        sigmas = schedule(name, 6, sampling, Latent(((16, 32, 32),)), (256, 256))
        assert sigmas.ndim == 1 and bool((sigmas.diff() <= 0).all()) and float(sigmas[0]) > 0, name


def test_a_scheduler_that_this_comfyui_lacks_is_refused(trainer, monkeypatch):
    from comfyui import schedulers
    from trainer.checkpoints.comfy.schedules import check_scheduler
    from trainer.run.errors import CheckpointError

    lacking = schedulers.NodeScheduler("comfy_extras.nodes_of_next_year", "Scheduler", lambda *given: given)
    monkeypatch.setitem(schedulers.NODES, "next_year", lacking)
    with pytest.raises(CheckpointError, match=r"--scheduler next_year: .*flux2"):
        check_scheduler("next_year")


def test_a_larger_picture_begins_its_descent_later(trainer):
    from comfyui import schedulers

    small, large = (schedulers.NODES["flux2"].sigmas(6, (side, side), (128, 4, 4)) for side in (256, 1024))
    assert small.shape == large.shape == (7,)
    assert bool((large[1:-1] > small[1:-1]).all()) and torch.equal(large[[0, -1]], small[[0, -1]])
