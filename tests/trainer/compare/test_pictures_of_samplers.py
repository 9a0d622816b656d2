"""`python -m trainer.evaluate --metrics`: whose pictures are compared, what is written, what is refused."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import dyweight
from trainer import evaluate
from trainer.checkpoints.builtin import digits, gmm
from trainer.compare import image_metrics, pictures_of_samplers
from trainer.compare.endpoint_error import endpoint
from trainer.compare.pictures_of_samplers import SPLIT, PictureTargets
from trainer.pairs.teacher import Teacher
from trainer.run.network import Network

pytestmark = [pytest.mark.usefixtures("picture_libraries"), pytest.mark.filterwarnings("ignore")]
QUICK = ("--samples", 20, "--batch", 10, "--teacher", "ipndm:20", "--max-calls", 3)


class Projection(torch.nn.Module):
    """Eight sums of pixels with random weights, in the place of FID's network."""

    @property
    def network(self) -> torch.nn.Module:
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        pixels = pictures.flatten(1)
        return pixels @ torch.randn(pixels.shape[1], 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def solver(tmp_path: Path) -> Path:
    """An untrained solver of 3 steps for the digits."""
    path = tmp_path / "untrained.safetensors"
    dyweight.save_solver(dyweight.DyWeight(digits.checkpoint().schedule(3)), path, {})
    return path


class Numbered(digits.Digits):
    """Conditions are numbers of prompts, as a ComfyUI checkpoint has them."""

    made_for = {"prompts": 8}  # noqa: RUF012


def test_every_prompt_of_comfyui_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    model = digits.checkpoint()
    plain, numbered = (
        PictureTargets(Network(made), Teacher("ipndm", 5), 1, 6, None)
        for made in (model, Numbered(model.network, model.fingerprint))
    )
    monkeypatch.setattr(pictures_of_samplers, "ComfyCheckpoint", Numbered)
    blocks = [numbered.block(SPLIT, i) for i in range(4)]
    assert torch.cat([block.cond for block in blocks]).tolist() == list(range(8)) * 3
    assert torch.equal(blocks[2].noise, plain.block(SPLIT, 2).noise)


@pytest.mark.usefixtures("picture_weights", "quick_pictures")
class TestEvaluation:
    @pytest.fixture(autouse=True)
    def few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Few features, and fewer samples for the endpoint errors than for the metrics."""
        monkeypatch.setattr(image_metrics, "load_inception", Projection)
        monkeypatch.setattr(image_metrics, "FID_FEATURES", 8)
        monkeypatch.setattr(evaluate, "ERROR_SAMPLES", 10)

    def test_all_metrics_of_all_samplers(
        self, commands: Any, solver: Path, tiny_clip: tuple[str, Path], tmp_path: Path
    ) -> None:
        np.savez(tmp_path / "real.npz", mu=np.zeros(8), sigma=np.eye(8))
        clip = ("--clip-score-model", tiny_clip[0], "--clip-score-weights", tiny_clip[1])
        asked = ("--metrics", "fid,clip,lpips", "--references", tmp_path / "real.npz", *clip)
        outcome = commands.evaluate("digits", solver, *QUICK, *asked)
        assert outcome.status == 0, outcome.errors
        report = outcome.report()
        found = report["metrics"]
        best = next(name for name in report["endpoint_error"] if name != "dyweight")
        assert set(found["values"]) == {"dyweight", best, "euler", "teacher"}
        assert set(found["values"]["dyweight"]) == {"fid", "clip", "lpips"}
        assert set(found["values"]["teacher"]) == {"fid", "clip"}
        assert found["samples"] == 20 and report["samples"] == 10
        assert found["made_with"]["fid"]["against"] == str(tmp_path / "real.npz")
        assert {facts["library"] for facts in found["made_with"].values()} == {
            "pytorch-fid",
            "open_clip_torch",
            "lpips",
        }
        for row in found["values"].values():
            assert all(value > 0 for value in row.values())
            assert all(f"{value:.4g}" in outcome.printed for value in row.values())

    def test_the_distance_is_between_pictures_of_the_same_noise(self, commands: Any, solver: Path) -> None:
        import lpips

        asked = ("--metrics", "lpips", "--baselines", "euler")
        values = commands.evaluate("digits", solver, *QUICK, *asked).report()["metrics"]["values"]
        network, model = lpips.LPIPS(net="alex", verbose=False), Network(digits.checkpoint())
        targets, plan = PictureTargets(model, Teacher("ipndm", 20), 1, 10, None), dyweight.baselines.plan
        distances = []
        for i in range(2):
            block = targets.block(SPLIT, i)
            ends = block.target, endpoint(model, block, plan("euler", model.checkpoint.schedule(3)))
            grey = [((end + 1) / 2).clamp(0, 1).mul(255).round().div(255).expand(-1, 3, -1, -1) for end in ends]
            large = [torch.nn.functional.interpolate(picture, 64, mode="bilinear") for picture in grey]
            distances += network(*large, normalize=True).flatten().tolist()
        assert values["euler"]["lpips"] == pytest.approx(np.mean(distances), rel=1e-4)

    def test_without_references_the_teachers_pictures_are(self, commands: Any, solver: Path) -> None:
        outcome = commands.evaluate("digits", solver, *QUICK, "--metrics", "fid", "--baselines", "euler")
        values = outcome.report()["metrics"]["values"]
        assert values["teacher"]["fid"] is None and 0 < values["dyweight"]["fid"] < values["euler"]["fid"]
        assert "fid against the teacher's pictures, 20 pictures" in outcome.printed

    def test_a_sampler_that_diverges_has_no_metrics(self, commands: Any, solver: Path) -> None:
        diverging = dyweight.load_solver(solver)
        with torch.no_grad():
            diverging.weights[-1] *= 1e30  # type: ignore[operator]
        dyweight.save_solver(diverging, solver, {})
        outcome = commands.evaluate("digits", solver, *QUICK, "--metrics", "lpips", "--baselines", "euler")
        assert outcome.status == 0, outcome.errors
        values = outcome.report()["metrics"]["values"]
        assert values["euler"]["lpips"] > 0 and values["dyweight"].keys() == {"lpips"}


@pytest.mark.usefixtures("picture_weights")
def test_what_a_checkpoint_lacks_is_told(commands: Any, solver: Path, tiny_clip: tuple[str, Path]) -> None:
    model = digits.checkpoint()
    model.captions = lambda cond: None  # type: ignore[method-assign,assignment,return-value]
    clip = ("--clip-score-model", tiny_clip[0], "--clip-score-weights", tiny_clip[1])
    assert "tells none" in commands.evaluate(model, solver, *QUICK, "--metrics", "clip", *clip).message
    mixture = gmm.checkpoint()
    dyweight.save_solver(dyweight.DyWeight(mixture.schedule(3)), solver, {})
    assert "decodes none" in commands.evaluate("gmm", solver, *QUICK, "--metrics", "lpips").message


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--metrics", "fid,lpip"), "did you mean lpips"),
        (("--references", "real"), "--metrics fid"),
        (("--metrics", "clip", "--clip-score-model", "ViT-Z"), "ViT-Z"),
        (("--metrics", "clip", "--clip-score-weights", "nobody"), "--clip-score-weights"),
    ],
)
def test_what_cannot_be_is_refused(asked: tuple[str, ...], said: str, commands: Any, solver: Path) -> None:
    pytest.importorskip("open_clip", exc_type=ImportError)
    assert said in commands.evaluate("digits", solver, *QUICK, *asked).message


@pytest.mark.parametrize(("name", "library"), [("fid", "pytorch_fid"), ("clip", "open_clip"), ("lpips", "lpips")])
def test_a_library_that_is_not_installed_is_named(
    name: str, library: str, commands: Any, solver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [module for module in sys.modules if module.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    message = commands.evaluate("digits", solver, *QUICK, "--metrics", name).message
    assert f"--metrics {name} needs {library}" in message and "pip install" in message
