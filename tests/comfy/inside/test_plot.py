"""The picture of a solver."""

import itertools

import pytest
import torch
from sampling_tools import call, in_file, random_solver

SHAPES = [*itertools.product((1, 2, 5, 13), (1, 3, 4)), (30, 4), (300, 3)]


def schedule(pack, kind, steps):
    if kind == "flow":
        return pack.dyweight.schedules.flow(steps, shift=3.0)
    return torch.cat([pack.dyweight.schedules.vp_discrete(steps)[:-1], torch.zeros(1)])


def is_picture(image):
    return (
        image.dtype == torch.float32
        and image.shape[0] == 1
        and image.shape[3] == 3
        and min(image.shape[1:3]) > 400
        and 0 <= float(image.min()) < 0.3
        and 0.9 < float(image.max()) <= 1
    )


@pytest.mark.parametrize("kind", ["flow", "vp"])
@pytest.mark.parametrize(("steps", "order"), SHAPES)
def test_every_solver_has_a_picture_that_nothing_leaves(pack, kind, steps, order):
    for analytic in (False, True):
        spread = 0.1 / steps
        sigmas = schedule(pack, kind, steps)
        solver = random_solver(pack, sigmas, order=order, spread=spread, analytic_first_step=analytic)
        image = call("DyWeightPlot", solver=solver)
        assert is_picture(image)
        frame = torch.cat([image[0, :16].flatten(0, 1), image[0, -16:].flatten(0, 1)])
        sides = torch.cat([image[0, :, :16].flatten(0, 1), image[0, :, -16:].flatten(0, 1)])
        assert torch.equal(frame, image[0, 0, 0].expand_as(frame)), "something is drawn into the margin"
        assert torch.equal(sides, image[0, 0, 0].expand_as(sides)), "something is drawn into the margin"


def test_different_solvers_have_different_pictures_and_one_solver_has_one(pack):
    sigmas = schedule(pack, "flow", 5)
    solvers = [random_solver(pack, sigmas, seed=seed, order=order) for seed in (1, 2) for order in (1, 2, 3)]
    pictures = [call("DyWeightPlot", solver=solver) for solver in solvers]
    for one, other in itertools.combinations(pictures, 2):
        assert one.shape != other.shape or not torch.equal(one, other)
    assert torch.equal(call("DyWeightPlot", solver=solvers[0]), pictures[0])


@pytest.mark.parametrize(
    "provenance",
    [
        {"model": "flux1-dev", "shape": [16, 64, 64], "cfg": 1.0, "guidance": 3.5, "shift": 1.15},
        {"endpoint_error_before": 0.0483, "endpoint_error_after": 0.019},
        {"model": "a model with a long name " * 40, "shape": [16, 21, 90, 160]},
        {"model": "W" * 5000, "cfg": None, "shape": "unknown", "endpoint_error_before": "n/a"},
    ],
)
def test_whatever_the_file_says_of_it_is_shown_inside_the_picture(pack, provenance):
    solver = random_solver(pack, schedule(pack, "flow", 4))
    plain = call("DyWeightPlot", solver=solver)
    image = call("DyWeightPlot", solver=in_file(pack, solver, "a-long-name_" * 9, provenance))
    assert is_picture(image)
    assert image.shape[2] == plain.shape[2]
    assert image.shape[1] > plain.shape[1]
    assert torch.equal(image[0, :, -16:].flatten(0, 1).unique(dim=0), image[0, :1, 0])


def test_a_picture_of_each_preset_is_shown_in_the_node(node_classes):
    names = [name for name in node_classes["DyWeightLoadSolver"].INPUT_TYPES()["required"]["solver_name"][1]["options"]]
    for name in names:
        file = call("DyWeightLoadSolver", solver_name=name)
        pictures = []
        for steps in (0, *file.solvers.steps):
            output = node_classes["DyWeightPlot"].execute(solver=file, steps=steps)
            assert is_picture(output[0])
            assert len(output.ui.as_dict()["images"]) == 1
            pictures.append(output[0])
        for one, other in itertools.combinations(pictures, 2):
            assert one.shape != other.shape or not torch.equal(one, other), "all, and each by itself"


def test_a_number_of_steps_that_is_not_there_is_an_error_with_those_that_are(pack):
    solvers = pack.dyweight.SolverSet(random_solver(pack, schedule(pack, "flow", steps)) for steps in (2, 4))
    with pytest.raises(ValueError, match="set steps to 2 or 4: there is no solver for 3"):
        call("DyWeightPlot", solver=solvers, steps=3)
