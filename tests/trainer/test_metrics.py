"""FID, CLIP score and LPIPS against the libraries' own numbers, on random weights and small pictures."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import dyweight
from trainer import evaluate, metrics, picture_metrics
from trainer.checkpoints import digits, gmm
from trainer.errors import TrainerError
from trainer.measure import endpoint
from trainer.metrics import ClipScore, Fid, LpipsDistance, Mean, Shown, Statistics
from trainer.network import Network
from trainer.picture_metrics import SPLIT, PictureTargets
from trainer.targets import Teacher

pytestmark = [pytest.mark.usefixtures("picture_libraries"), pytest.mark.filterwarnings("ignore")]
TINY_CLIP = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}
QUICK = ("--samples", 20, "--batch", 10, "--teacher", "ipndm:20", "--max-calls", 3)


class FewFeatures(torch.nn.Module):
    """Eight features of the first block of FID's network: a square root of 2048 x 2048 takes minutes."""

    def __init__(self) -> None:
        super().__init__()
        from pytorch_fid.inception import InceptionV3

        self.network = InceptionV3([0])

    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.network(pictures)[0].mean((2, 3))[:, :8]
        return features


class Flat(torch.nn.Module):
    """The pixels themselves."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.flatten(1)


class Projection(torch.nn.Module):
    """Eight sums of pixels with random weights, in the place of FID's network."""

    @property
    def network(self) -> torch.nn.Module:
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        pixels = pictures.flatten(1)
        return pixels @ torch.randn(pixels.shape[1], 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def tiny_clip(tmp_path: Path) -> tuple[str, Path]:
    """(name of a model that open_clip knows, file of random weights for it)."""
    open_clip = pytest.importorskip("open_clip", exc_type=ImportError)
    (tmp_path / "tiny-clip-of-tests.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(tmp_path / "tiny-clip-of-tests.json")
    torch.manual_seed(6)  # whose scores are of both signs, and mostly above 0
    torch.save(open_clip.create_model("tiny-clip-of-tests").state_dict(), tmp_path / "tiny-clip.pt")
    return "tiny-clip-of-tests", tmp_path / "tiny-clip.pt"


def pictures(count: int, size: int = 16, seed: int = 0) -> Tensor:
    """In steps of 1/255, and brighter by and by."""
    shape, generator = (count, 3, size, size), torch.Generator().manual_seed(seed)
    return (
        torch.rand(shape, generator=generator) * 255 * torch.linspace(0.2, 1, count)[:, None, None, None]
    ).round() / 255


def shown(of: Tensor, teacher: Tensor | None = None, captions: Sequence[str] | None = None) -> Shown:
    return Shown(of, of if teacher is None else teacher, captions)


def written(of: Tensor, folder: Path) -> Path:
    from PIL import Image

    folder.mkdir()
    for i, picture in enumerate(of):
        Image.fromarray((picture * 255).round().byte().movedim(0, -1).numpy()).save(folder / f"{i:03}.png")
    return folder


def test_running_statistics_are_those_of_numpy() -> None:
    features = torch.randn(57, 6, generator=torch.Generator().manual_seed(0)) + 100
    statistics = Statistics()
    for part in features.split(10):
        statistics.add(part)
    mean, covariance = statistics.gaussian()
    assert np.allclose(mean, features.double().mean(0), rtol=1e-12)
    assert np.allclose(covariance, np.cov(features.double().numpy(), rowvar=False), rtol=1e-9, atol=1e-9)


def test_fid_of_gaussians_has_its_closed_form() -> None:
    """Equal covariances: the squared distance of the means. Twice the deviations: the trace of the covariance."""
    of = pictures(40, size=1)
    assert fid(Flat(), of + 0.5, of) == pytest.approx(3 * 0.25, rel=1e-5)
    covariance = np.cov(of.flatten(1).double().numpy(), rowvar=False)
    assert fid(Flat(), of, 2 * of - of.mean(0)) == pytest.approx(np.trace(covariance), rel=1e-5)
    assert fid(Flat(), of, of) == pytest.approx(0, abs=1e-9)


def fid(network: torch.nn.Module, of: Tensor, against: Tensor) -> float:
    reference = Statistics()
    reference.add(network(against))
    found = Fid(network, reference)
    for part in of.split(7):
        found.add(shown(part))
    return found.value()


@pytest.mark.usefixtures("picture_weights")
def test_fid_is_that_of_pytorch_fid_on_files(tmp_path: Path) -> None:
    from pytorch_fid.fid_score import calculate_frechet_distance, get_activations

    network, sets = FewFeatures(), (pictures(12), pictures(12, seed=1).sqrt().mul(255).round().div(255))
    folders = [written(of, tmp_path / name) for of, name in zip(sets, "ab", strict=True)]
    features = [get_activations(sorted(f.iterdir()), network.network, 4, 64, "cpu", 0)[:, :8] for f in folders]
    gaussians = [(f.mean(0), np.cov(f, rowvar=False)) for f in features]
    expected = calculate_frechet_distance(*gaussians[0], *gaussians[1])
    with torch.inference_mode():
        assert fid(network, *sets) == pytest.approx(expected, rel=1e-3)
        assert abs(fid(network, sets[0], sets[0])) < 1e-3 * expected


@pytest.mark.usefixtures("picture_weights")
def test_references_are_a_folder_or_its_statistics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(metrics, "FID_FEATURES", 64)
    network, folder = FewFeatures().network, written(pictures(3), tmp_path / "real")
    of_folder = metrics.known_statistics(folder, network, torch.device("cpu")).gaussian()
    np.savez(tmp_path / "real.npz", mu=of_folder[0], sigma=of_folder[1])
    of_file = metrics.known_statistics(tmp_path / "real.npz", network, torch.device("cpu")).gaussian()
    assert of_folder[0].shape == (64,) and all(map(np.array_equal, of_folder, of_file))


@pytest.mark.usefixtures("picture_weights")
@pytest.mark.parametrize("size", [16, 80])
def test_lpips_is_the_librarys(size: int) -> None:
    import lpips

    network = lpips.LPIPS(net="alex", verbose=False)
    first, second = pictures(4, size), pictures(4, size, seed=1)
    found = Mean(LpipsDistance(network))
    with torch.inference_mode():
        for part in ([0], [1, 2, 3]):
            found.add(shown(first[part], second[part]))
        large = [torch.nn.functional.interpolate(x, 64, mode="bilinear") if size < 64 else x for x in (first, second)]
        expected = float(network(*large, normalize=True).mean())
        assert not bool(LpipsDistance(network)(shown(first)).any())
    assert found.value() == pytest.approx(expected, rel=1e-4) and expected > 0.01


def test_clip_score_is_a_hundred_times_the_cosine_and_never_below_0(tiny_clip: tuple[str, Path]) -> None:
    import open_clip
    from PIL import Image

    model, weights = tiny_clip
    network, _, preprocess = open_clip.create_model_and_transforms(model, pretrained=str(weights))
    tokenize, of = open_clip.get_tokenizer(model), pictures(6)
    captions = [f"a picture of {name}" for name in ("cats", "dogs", "a red bus", "seven", "nothing", "you")]
    cosines = []
    with torch.inference_mode():
        found = ClipScore(network, preprocess, tokenize)(shown(of, captions=captions))
        for picture, caption in zip(of, captions, strict=True):
            file = Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy())
            seen, read = network.encode_image(preprocess(file)[None])[0], network.encode_text(tokenize([caption]))[0]
            cosines.append(float(seen @ read / (seen.norm() * read.norm())))
    assert min(cosines) < 0 < max(cosines)
    assert found.tolist() == pytest.approx([max(0, 100 * cosine) for cosine in cosines], abs=1e-3)


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
    monkeypatch.setattr(picture_metrics, "ComfyCheckpoint", Numbered)
    blocks = [numbered.block(SPLIT, i) for i in range(4)]
    assert torch.cat([block.cond for block in blocks]).tolist() == list(range(8)) * 3
    assert torch.equal(blocks[2].noise, plain.block(SPLIT, 2).noise)


@pytest.mark.usefixtures("picture_weights", "quick_pictures")
class TestEvaluation:
    @pytest.fixture(autouse=True)
    def few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Few features, and fewer samples for the endpoint errors than for the metrics."""
        monkeypatch.setattr(metrics, "load_inception", Projection)
        monkeypatch.setattr(metrics, "FID_FEATURES", 8)
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
            assert all(f"{value:.4f}" in outcome.printed for value in row.values())

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


@pytest.mark.parametrize("content", ["nothing", "folder", "text", "no mu", "another size"])
def test_references_that_cannot_be_read_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "real.npz"
    if content == "folder":
        (path := tmp_path / "real").mkdir()
    elif content == "text":
        path.write_text("no statistics")
    elif content != "nothing":
        np.savez(path, **({"mu": np.zeros(3), "sigma": np.eye(3)} if content == "another size" else {"m": np.ones(1)}))
    with pytest.raises(TrainerError, match=f"--references {path}"):
        metrics.known_statistics(path, Flat(), torch.device("cpu"))


@pytest.mark.parametrize(("name", "library"), [("fid", "pytorch_fid"), ("clip", "open_clip"), ("lpips", "lpips")])
def test_a_library_that_is_not_installed_is_named(
    name: str, library: str, commands: Any, solver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [module for module in sys.modules if module.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    message = commands.evaluate("digits", solver, *QUICK, "--metrics", name).message
    assert f"--metrics {name} needs {library}" in message and "pip install" in message
