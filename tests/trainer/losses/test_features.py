"""Losses on decoded images, by the real libraries with random weights lying where those libraries keep theirs."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import dyweight
from trainer.checkpoints.builtin import digits
from trainer.checkpoints.protocol import full
from trainer.distill import main
from trainer.fit.least_squares import problem, sums
from trainer.fit.probing import Probing, probe
from trainer.fit.rollout import rollout
from trainer.fit.table import Numbers
from trainer.losses.endpoint import EndpointLoss
from trainer.losses.features import loss_features
from trainer.pairs.targets import Targets
from trainer.pairs.teacher import Teacher
from trainer.run.errors import TrainerError
from trainer.run.network import Network

pytestmark = pytest.mark.usefixtures("picture_libraries")


@pytest.fixture
def endpoints() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 4, 1, 8, 8, generator=generator).mul(2).sub(1).unbind()


def distance(loss: Any, first: Tensor, second: Tensor) -> float:
    measured = EndpointLoss(loss, features=loss_features(loss, full(digits.checkpoint()), lambda: 1.0))
    return float(measured.value(measured.residual(first, second)))


def as_pictures(x: Tensor, size: int) -> Tensor:
    """Enlarged as the loss does it, in -1..1."""
    pictures = ((x + 1) / 2).clamp(0, 1).expand(-1, 3, -1, -1)
    if size != 8:
        pictures = torch.nn.functional.interpolate(pictures, (size, size), mode="bilinear", antialias=True)
    return pictures


@pytest.mark.usefixtures("picture_weights")
def test_lpips_is_the_librarys_distance(endpoints: tuple[Tensor, Tensor]) -> None:
    import lpips

    network = lpips.LPIPS(net="alex", verbose=False)
    first, second = (as_pictures(x, 64) for x in endpoints)
    expected = float(network(first, second, normalize=True).mean())
    assert expected > 0.01
    assert distance("lpips", *endpoints) == pytest.approx(expected, rel=1e-4)
    assert distance("lpips", endpoints[0], endpoints[0]) == 0


@pytest.mark.usefixtures("picture_weights")
def test_inception_is_the_squared_distance_of_the_pooled_features(endpoints: tuple[Tensor, Tensor]) -> None:
    from pytorch_fid.inception import InceptionV3

    network = InceptionV3().eval()
    first, second = (network(as_pictures(x, 8))[0] for x in endpoints)
    expected = float(((first - second) ** 2).mean())
    assert expected > 0
    assert distance("inception", *endpoints) == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("picture_weights")
def test_normal_equations_of_features_hold_the_gradient_of_the_loss() -> None:
    """By automatic differentiation through decoder and features, which the fit itself never does."""
    model = digits.checkpoint()
    network = Network(model)
    block = Targets(network, Teacher("ipndm", 20), 0, 2, None).block("train", 0)
    loss = EndpointLoss("lpips", features=loss_features("lpips", full(model), lambda: 1.0))
    solver = dyweight.DyWeight(model.schedule(3), 2)
    numbers = Numbers(solver)
    table = numbers.table(numbers.read(solver))
    made = rollout(network, block, table.plan)
    maps = probe(network, block, table, made, Probing(1e-3, 1e-3, 99, 1e-3, 1.0))
    target = block.target.flatten(1).clone()
    summed = sums(loss, (1, 8, 8), table, made, made, maps, target)
    found = problem(summed.sum(0), table, made.log_queries, 64)
    end = dyweight.sample(network.bound(block.cond), block.noise.clone(), solver.plan())
    value = loss.value(loss.residual(end, block.target.clone()))
    gradients = torch.autograd.grad(value, solver.numbers())
    gradient = torch.cat([part.flatten() for part in gradients])
    assert found.loss == pytest.approx(float(value.detach()), rel=1e-4)
    assert float((2 * found.gradient - gradient).norm() / gradient.norm()) < 5e-2


@pytest.mark.usefixtures("picture_weights")
@pytest.mark.parametrize("method", [pytest.param("gauss-newton", marks=pytest.mark.slow), "adam"])
def test_a_fit_lowers_its_own_loss(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.safetensors"
    few = ["--pairs", "16", "--batch", "4", "--validation-pairs", "4", "--iterations", "4", "--teacher", "ipndm:15"]
    started = ["--no-keep-targets", "--initial", "euler", "--method", method, "--loss", "lpips"]
    assert main(["--ckpt", "digits", "--steps", "3", "--out", str(out), *few, *started]) == 0
    file = dyweight.SolverFile.read(out)
    solver = file.solver
    assert file.provenance["loss"] == "lpips"
    model = digits.checkpoint()
    block = Targets(Network(model), Teacher("ipndm", 15), 5, 32, None).block("test", 0)

    def end(plan: dyweight.Plan) -> Tensor:
        with torch.no_grad():
            return dyweight.sample(lambda x, sigma: model.denoise(x, sigma, block.cond), block.noise, plan)

    untrained = dyweight.baselines.plan("euler", model.schedule(3))
    assert distance("lpips", end(solver.plan()), block.target) < 0.9 * distance("lpips", end(untrained), block.target)


@pytest.mark.parametrize(("loss", "library"), [("lpips", "lpips"), ("inception", "pytorch_fid")])
def test_a_library_that_is_not_installed_is_named(
    loss: Any, library: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    out = tmp_path / "x.safetensors"
    assert main(["--ckpt", "digits", "--steps", "3", "--loss", loss, "--no-keep-targets", "--out", str(out)]) == 2
    assert f"--loss {loss} needs {library}" in (said := capsys.readouterr().err) and "pip install" in said
    assert not out.exists()


def test_weights_that_cannot_be_loaded_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", refused)
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path)
    try:
        with pytest.raises(TrainerError, match=r"could not load its weights \(no route to host\)"):
            loss_features("lpips", full(digits.checkpoint()), lambda: 1.0)
    finally:
        torch.hub.set_dir(before)


def test_a_model_without_pictures_is_told_so() -> None:
    from trainer.checkpoints.builtin import gmm

    with pytest.raises(TrainerError, match="decodes none"):
        loss_features("lpips", full(gmm.checkpoint()), lambda: 1.0)
