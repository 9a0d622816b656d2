"""FID, CLIP score and LPIPS of decoded pictures by the libraries that are used for published figures.

Pictures come in batches, and no metric keeps them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..losses.features import LPIPS_PIXELS, load_inception, load_lpips, loading
from ..options.evaluate import EvaluateOptions
from ..run.errors import TrainerError

INSTALL = "pip install lpips pytorch-fid open_clip_torch 'scipy<1.18'"
FID_FEATURES = 2048


@dataclass(frozen=True)
class Shown:
    """A batch of a sampler's pictures with their references."""

    pictures: Tensor
    """[B, 3, height, width] in 0..1, in steps of 1/255"""
    teacher: Tensor
    """[B, 3, height, width] the fine teacher's pictures from the same noise"""
    captions: Sequence[str] | None
    """Their prompts."""


class Metric(Protocol):
    """One number for all pictures of one sampler."""

    def add(self, shown: Shown) -> None:
        """Take a batch into account."""

    def value(self) -> float:
        """The metric of all batches; NaN where there is nothing to compare."""


class Statistics:
    """Mean and covariance of feature vectors by running sums in float64."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: Any = 0.0
        self._products: Any = 0.0

    def add(self, features: Tensor) -> None:
        """features [B, n]"""
        vectors = features.detach().cpu().double().numpy()
        self.count += len(vectors)
        self._sum = self._sum + vectors.sum(0)
        self._products = self._products + vectors.T @ vectors

    def gaussian(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(mean [n], covariance [n, n] by count - 1), as `numpy.cov` has it. Needs two vectors."""
        mean = self._sum / self.count
        return mean, (self._products - self.count * np.outer(mean, mean)) / (self.count - 1)


class Known:
    """A given mean and covariance."""

    def __init__(self, mean: NDArray[np.float64], covariance: NDArray[np.float64]) -> None:
        self._gaussian = mean, covariance

    def gaussian(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(mean [n], covariance [n, n])"""
        return self._gaussian


class Fid:
    """Fréchet distance between the Gaussians of two sets of features (Heusel et al. 2017, arXiv:1706.08500)."""

    def __init__(self, network: torch.nn.Module, reference: Statistics | Known, own: Statistics | None = None) -> None:
        """network: pictures -> [B, n]. own: the statistics of these pictures, by default new ones, or the reference if
        they are the reference."""
        self._network, self._reference, self._own = network, reference, own or Statistics()

    def add(self, shown: Shown) -> None:
        self._own.add(self._network(shown.pictures))

    def value(self) -> float:
        if self._own is self._reference or self._own.count < 2:
            return math.nan
        from pytorch_fid.fid_score import calculate_frechet_distance

        return float(calculate_frechet_distance(*self._own.gaussian(), *self._reference.gaussian()))


class Mean:
    """The mean of a score of each picture."""

    def __init__(self, score: Any) -> None:
        """score: Shown -> [B]"""
        self._score, self._sum, self._count = score, 0.0, 0

    def add(self, shown: Shown) -> None:
        scores = self._score(shown)
        self._sum, self._count = self._sum + float(scores.cpu().double().sum()), self._count + len(scores)

    def value(self) -> float:
        return self._sum / self._count if self._count else math.nan


class ClipScore:
    """100 times the cosine of picture and prompt in CLIP's space, at least 0 (Hessel et al. 2021, arXiv:2104.08718)."""

    def __init__(self, network: Any, preprocess: Any, tokenize: Any) -> None:
        """The model of `open_clip`, its function from a PIL picture to a tensor, and its tokenizer."""
        self.network, self._preprocess, self._tokenize = network.eval(), preprocess, tokenize

    def __call__(self, shown: Shown) -> Tensor:
        """[B]"""
        from PIL import Image

        assert shown.captions is not None
        bytes_ = shown.pictures.mul(255).round().byte().movedim(1, -1).cpu().numpy()
        device = shown.pictures.device
        seen = torch.stack([self._preprocess(Image.fromarray(picture)) for picture in bytes_]).to(device)
        network = self.network.to(device)
        pictures, texts = network.encode_image(seen), network.encode_text(self._tokenize(shown.captions).to(device))
        return 100 * functional.cosine_similarity(pictures, texts).clamp_min(0)


class LpipsDistance:
    """LPIPS 0.1 with AlexNet between a picture and the teacher's (Zhang et al. 2018, arXiv:1801.03924)."""

    def __init__(self, network: Any) -> None:
        """network: `lpips.LPIPS`"""
        self.network = network.eval()

    def __call__(self, shown: Shown) -> Tensor:
        """[B]; pictures that are too small for the network are enlarged."""
        network = self.network.to(shown.pictures.device)
        distance: Tensor = network(_at_least(shown.pictures), _at_least(shown.teacher), normalize=True)
        return distance.flatten()


class Metrics:
    """The metrics that `--metrics` names, with their networks loaded once for all samplers."""

    def __init__(self, options: EvaluateOptions, device: torch.device) -> None:
        """Raises TrainerError with what to install or to give."""
        self.names = tuple(dict.fromkeys(options.metrics or ()))
        self._teacher = Statistics()
        self._reference: Statistics | Known = self._teacher
        self.facts: dict[str, dict[str, str]] = {}
        """For each metric the library, its version, the weights and the reference, for the report."""
        if "fid" in self.names:
            self._load_fid(options.references, device)
        if "clip" in self.names:
            self._load_clip(options.clip_score_model, options.clip_score_weights)
        if "lpips" in self.names:
            with loading("--metrics lpips", INSTALL):
                self._lpips = LpipsDistance(load_lpips())
            self.facts["lpips"] = _library("lpips", weights="alex 0.1", against="the teacher's pictures")

    def row(self, teacher: bool = False) -> dict[str, Metric]:
        """New metrics for the pictures of a sampler, by name. teacher: whether they are for the teacher's."""
        row: dict[str, Metric] = {}
        for name in self.names:
            if name == "fid":
                row[name] = Fid(self._inception, self._reference, self._teacher if teacher else None)
            elif name == "clip":
                row[name] = Mean(self._clip)
            elif not teacher:
                row[name] = Mean(self._lpips)
        return row

    def _load_fid(self, references: Path | None, device: torch.device) -> None:
        with loading("--metrics fid", INSTALL):
            from pytorch_fid.inception import FID_WEIGHTS_URL

            inception = load_inception()
            self._inception = inception.to(device).eval().requires_grad_(False)
            if references is not None:
                self._reference = known_statistics(references, inception.network, device)
        against = "the teacher's pictures" if references is None else str(references)
        self.facts["fid"] = _library("pytorch-fid", weights=FID_WEIGHTS_URL.rpartition("/")[2], against=against)

    def _load_clip(self, model: str, weights: str) -> None:
        with loading("--metrics clip", INSTALL):
            import open_clip
        try:
            network, _, preprocess = open_clip.create_model_and_transforms(
                model, pretrained=weights, require_pretrained=True
            )
            self._clip = ClipScore(network, preprocess, open_clip.get_tokenizer(model))
        except (OSError, RuntimeError) as error:
            raise TrainerError(
                f"--metrics clip: open_clip could not load {weights} of {model} ({error}); it keeps what it downloads "
                "in the cache of Hugging Face (HF_HUB_CACHE), or give a file with --clip-score-weights"
            ) from error
        self.facts["clip"] = _library("open_clip_torch", weights=f"{model} {weights}", against="the prompts")


def known_statistics(path: Path, network: torch.nn.Module, device: torch.device) -> Known:
    """Statistics of a folder of pictures or a .npz with mu and sigma, as pytorch-fid reads them.

    network: `pytorch_fid.inception.InceptionV3`. Raises TrainerError with what to give.
    """
    from pytorch_fid.fid_score import IMAGE_EXTENSIONS, compute_statistics_of_path

    if path.suffix != ".npz" and sum(file.suffix[1:] in IMAGE_EXTENSIONS for file in path.glob("*.*")) < 2:
        raise TrainerError(
            f"--references {path}: give a .npz of statistics or a folder with two pictures or more, "
            f"{', '.join(sorted(IMAGE_EXTENSIONS))}, in the folder itself"
        )
    try:
        # In batches of 1, since real pictures differ in size.
        mean, covariance = compute_statistics_of_path(str(path), network, 1, FID_FEATURES, device, 0)
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise TrainerError(f"--references {path}: can't be read ({type(error).__name__}: {error})") from error
    if mean.shape != (FID_FEATURES,) or covariance.shape != (FID_FEATURES, FID_FEATURES):
        raise TrainerError(
            f"--references {path}: mu has shape {mean.shape} and sigma {covariance.shape}, not those of "
            f"{FID_FEATURES} features: make them with python -m pytorch_fid --save-stats FOLDER FILE.npz"
        )
    return Known(mean, covariance)


def _at_least(pictures: Tensor) -> Tensor:
    height, width = pictures.shape[-2:]
    scale = LPIPS_PIXELS[0] / min(height, width)
    if scale <= 1:
        return pictures
    return functional.interpolate(pictures, (round(height * scale), round(width * scale)), mode="bilinear")


def _library(name: str, **facts: str) -> dict[str, str]:
    return {"library": name, "version": version(name), **facts}
