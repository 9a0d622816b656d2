"""The picture of a solver that gives each sample its own table."""

import itertools

import pytest
import torch
from sample_solvers import KINDS, speaking
from sampling_tools import call, in_file, random_solver

SHAPES = {"vector": (6,), "long vector": (3000,), "one channel": (1, 4), "image": (4, 8, 8), "video": (16, 3, 8, 8)}


def schedule(pack, steps, vp=False):
    if not vp:
        return pack.dyweight.schedules.flow(steps, shift=3.0)
    return torch.cat([pack.dyweight.schedules.vp_discrete(steps)[:-1], torch.zeros(1)])


def plotted(solver):
    """The picture, after a look at its margins."""
    image = call("DyWeightPlot", solver=solver)
    assert image.dtype == torch.float32 and image.shape[0] == 1 and image.shape[3] == 3
    assert min(image.shape[1:3]) > 400 and 0 <= float(image.min()) < 0.3 and 0.9 < float(image.max()) <= 1
    edges = (image[0, :16], image[0, -16:], image[0, :, :16], image[0, :, -16:])
    margin = torch.cat([edge.flatten(0, 1) for edge in edges])
    assert torch.equal(margin, image[0, 0, 0].expand_as(margin)), "something is drawn into the margin"
    return image


@pytest.mark.parametrize("vp", [False, True], ids=["flow", "vp"])
@pytest.mark.parametrize("steps", [1, 2, 5, 13, 30])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_leaves_the_picture(pack, kind, steps, vp):
    plotted(speaking(pack, kind, "sd3", schedule(pack, steps, vp)))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_latent(pack, kind, name):
    solver = speaking(pack, kind, "sd3", schedule(pack, 4), shape=SHAPES[name])
    silent = speaking(pack, kind, "sd3", schedule(pack, 4), shape=SHAPES[name], loud=0.0)
    assert not torch.equal(plotted(solver), plotted(silent))


@pytest.mark.parametrize("base", ["euler", "dpmpp_2m", "heun"])
def test_a_base_solver_with_one_or_two_calls_a_step(pack, base):
    plotted(speaking(pack, "indis", "sd3", schedule(pack, 4), base=base))


def test_an_analytic_first_step(pack):
    base = {"analytic_first_step": True}
    plotted(speaking(pack, "instance-dyweight", "sd15", schedule(pack, 4, vp=True), dyweight=base))


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_spread_there_is_a_row_less_than_with_one(pack, kind):
    """A network that reads no noise gives all noises one table."""
    own = plotted(speaking(pack, kind, "sd3", schedule(pack, 4)))
    shared = plotted(speaking(pack, kind, "sd3", schedule(pack, 4), instance=False))
    assert shared.shape[1] < own.shape[1]


def test_untrained_corrections_show_the_weights_of_the_dyweight(pack):
    """The upper part is that of the DyWeight's own picture, below its first lines."""
    solver = speaking(pack, "instance-dyweight", "sd3", schedule(pack, 4), loud=0.0)
    other = random_solver(pack, solver.sigmas, seed=9)
    own, base, foreign = (plotted(in_file(pack, one, "same")) for one in (solver, solver.dyweight, other))
    weights = slice(160, 280)
    assert not torch.equal(own[0, weights], foreign[0, weights])
    assert torch.equal(own[0, weights], base[0, weights])


def test_different_solvers_have_different_pictures_and_one_solver_has_one(pack):
    solvers = [speaking(pack, kind, "sd3", schedule(pack, 5), seed=seed) for kind in KINDS for seed in (0, 1)]
    pictures = [plotted(solver) for solver in solvers]
    for one, other in itertools.combinations(pictures, 2):
        assert one.shape != other.shape or not torch.equal(one, other)
    assert torch.equal(plotted(solvers[0]), pictures[0])
