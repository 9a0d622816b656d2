"""A model fitted at several sizes at once."""

import pytest
import sampling_tools as tools
import torch
from test_trainer_checkpoint import checkpoint, files  # noqa: F401

WIDTHS = (64, 96)


@pytest.fixture
def sizes(trainer, files):  # noqa: F811
    from trainer.checkpoints.comfy.sizes import Sizes

    first = checkpoint(trainer, files, "sd3", width=WIDTHS)
    return Sizes([first.of_width(width) for width in WIDTHS])


@pytest.fixture
def alone(trainer, files):  # noqa: F811
    return [checkpoint(trainer, files, "sd3", width=width) for width in WIDTHS]


def test_a_sample_is_one_of_each_size_as_each_alone_has_it(sizes, alone):
    from trainer.compare.endpoint_error import endpoint
    from trainer.fit.new_solver import DyWeight
    from trainer.pairs.pairs import Block
    from trainer.run.network import Network

    noise, cond = sizes.draw(torch.Generator().manual_seed(0), 2)
    solver = DyWeight(sizes.schedule(3), 2).requires_grad_(False)
    ends = endpoint(Network(sizes), Block(0, noise, cond, noise), solver)
    first = 0
    for model in alone:
        count = model.shape[0] * model.shape[1] * model.shape[2]
        own = noise[:, first : first + count].reshape(2, *model.shape)
        end = endpoint(Network(model), Block(0, own, cond, own), solver)
        assert tools.difference(ends[:, first : first + count].reshape_as(end), end) < 1e-5
        first += count
    assert first == sizes.shape[0]


def test_a_model_of_a_width_is_that_of_a_checkpoint_of_it(sizes, alone):
    small, large = alone
    assert sizes.fingerprint not in (small.fingerprint, large.fingerprint)
    assert small.of_width(WIDTHS[1]).fingerprint == large.fingerprint
    assert small.of_width(WIDTHS[1]).shape == large.shape and small.shape != large.shape


def test_the_file_tells_all_sizes_and_the_nodes_are_content_with_each(pack, sizes, user_files, caplog):
    import dyweight
    from trainer import fit_solver

    few = {"batch": 2, "validation_pairs": 1, "calls": 300, "iterations": 2, "keep_targets": False}
    fitted = fit_solver(sizes, 3, teacher="euler:6", difference_step=0.02, pairs=2, **few)
    path = user_files / "both.safetensors"
    made_for = {**sizes.made_for, "model_family": "SD3", "shift": sizes.shift}
    assert made_for["shapes"] == [[16, 8, 8], [16, 12, 12]] and made_for["shape"] == [16, 8, 8]
    dyweight.save_solver(fitted.solver, path, made_for)
    file = pack.dyweight.SolverFile.read(path)
    for side in (8, 12, 10):
        caplog.clear()
        applied = tools.call("DyWeightApply", model=tools.model("sd3"), solver=file)
        tools.ksampler(applied, "sd3", 3, latent_image={"samples": torch.zeros(1, 16, side, side)})
        assert (not tools.said(caplog)) == (side != 10), caplog.text
