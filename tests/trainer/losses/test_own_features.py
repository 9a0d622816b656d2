"""`--loss features`: what a checkpoint tells of its endpoints itself, here by the classifier of `shapes`."""

from pathlib import Path

import pytest
import torch

import dyweight
from tools.models.train_shapes_judge import drawn
from trainer.checkpoints.builtin import digits, shapes
from trainer.checkpoints.builtin.shapes_judge import judge
from trainer.distill import main
from trainer.losses.endpoint import EndpointLoss
from trainer.losses.features import loss_features
from trainer.pairs.targets import Targets
from trainer.pairs.teacher import Teacher
from trainer.run.errors import TrainerError
from trainer.run.network import Network


def test_the_classifier_of_shapes_knows_new_drawings() -> None:
    pictures, truths = drawn(500, torch.Generator().manual_seed(2))
    with torch.no_grad():
        answers = judge().answers(pictures)
    for scores, truth in zip(answers, truths, strict=True):
        assert float((scores.argmax(1) == truth).float().mean()) > 0.95


def test_a_checkpoints_own_features_are_compared_as_they_are() -> None:
    model = shapes.checkpoint()
    (first, _), (second, _) = (model.draw(torch.Generator().manual_seed(seed), 4) for seed in range(2))
    measured = EndpointLoss("features", features=loss_features("features", model, lambda: 1.0))
    found = float(measured.value(measured.residual(first, second)))
    assert found == pytest.approx(float((model.features(first) - model.features(second)).square().mean())) and found > 0


@pytest.mark.parametrize("method", ["gauss-newton", "adam"])
def test_a_fit_lowers_the_distance_of_own_features(method: str, tmp_path: Path) -> None:
    out = tmp_path / "found.safetensors"
    few = ["--pairs", "16", "--batch", "8", "--validation-pairs", "8", "--iterations", "2", "--teacher", "ipndm:15"]
    started = ["--no-keep-targets", "--initial", "euler", "--method", method, "--loss", "features"]
    assert main(["--ckpt", "shapes", "--steps", "3", "--out", str(out), *few, *started]) == 0
    file = dyweight.SolverFile.read(out)
    solver = file.solver
    assert file.provenance["loss"] == "features"
    model = shapes.checkpoint()
    block = Targets(Network(model), Teacher("ipndm", 15), 5, 64, None).block("test", 0)

    def distance(plan: dyweight.Plan) -> float:
        with torch.no_grad():
            end = dyweight.sample(lambda x, sigma: model.denoise(x, sigma, block.cond), block.noise, plan)
            return float((model.features(end) - model.features(block.target)).square().mean())

    assert distance(solver.plan()) < 0.9 * distance(dyweight.baselines.plan("euler", model.schedule(3)))


def test_a_checkpoint_without_own_features_is_told_so() -> None:
    with pytest.raises(TrainerError, match=r"--loss features .* take --loss l2"):
        loss_features("features", digits.checkpoint(), lambda: 1.0)
