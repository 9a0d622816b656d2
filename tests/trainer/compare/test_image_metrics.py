"""FID, CLIP score and LPIPS against the libraries' own numbers, on random weights and small pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.compare import image_metrics
from trainer.compare.image_metrics import ClipScore, Fid, LpipsDistance, Mean, Shown, Statistics
from trainer.run.errors import TrainerError

pytestmark = [pytest.mark.usefixtures("picture_libraries"), pytest.mark.filterwarnings("ignore")]


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
    monkeypatch.setattr(image_metrics, "FID_FEATURES", 64)
    network, folder = FewFeatures().network, written(pictures(3), tmp_path / "real")
    of_folder = image_metrics.known_statistics(folder, network, torch.device("cpu")).gaussian()
    np.savez(tmp_path / "real.npz", mu=of_folder[0], sigma=of_folder[1])
    of_file = image_metrics.known_statistics(tmp_path / "real.npz", network, torch.device("cpu")).gaussian()
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
        image_metrics.known_statistics(path, Flat(), torch.device("cpu"))
