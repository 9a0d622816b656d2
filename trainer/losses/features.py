"""What endpoints are compared by: the latent itself, or features of it or its image, by the checkpoint or a library."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ..checkpoints.protocol import Checkpoint
from ..run.errors import TrainerError

if TYPE_CHECKING:
    from .endpoint import LossName

LPIPS_PIXELS = (64, 256)
"""Shortest and longest side of the pictures that LPIPS sees; its network was calibrated on 64, and can't see fewer."""
INSTALL = "pip install lpips pytorch-fid"


def in_colour(pictures: Tensor, device: torch.device) -> Tensor:
    """[B, height, width] or [B, height, width, 3] -> [B, 3, height, width] in 0..1, as networks take it."""
    coloured = pictures if pictures.ndim == 4 else pictures[..., None].expand(*pictures.shape, 3)
    return coloured.movedim(-1, 1).to(device, torch.float32).clamp(0, 1)


class Features(Protocol):
    """Endpoints as vectors: the mean squared difference of two, over unit^2, is the distance."""

    @property
    def unit(self) -> float:
        """What a difference is divided by."""

    def __call__(self, x: Tensor) -> Tensor:
        """[B, *shape] -> [B, n]."""


class Latent:
    """The latent's own elements, in standard deviations of the targets."""

    def __init__(self, unit: float | Callable[[], float]) -> None:
        """unit: the deviation, or how to find it when it is first asked for."""
        self._unit = unit

    @property
    def unit(self) -> float:
        return self._unit() if callable(self._unit) else self._unit

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class Own:
    """What a checkpoint's own `features(x)` tells; the distance is as its author scales them."""

    unit = 1.0

    def __init__(self, features: Callable[[Tensor], Tensor]) -> None:
        self._features = features

    def __call__(self, x: Tensor) -> Tensor:
        return self._features(x).flatten(1)


class Pictures:
    """Features of decoded images by a frozen network; the distance is that of the network's authors."""

    unit = 1.0

    def __init__(self, images: Callable[[Tensor], Tensor | None], network: torch.nn.Module) -> None:
        """images: a checkpoint's, [B, *shape] -> [B, height, width(, 3)] in 0..1. network: pictures [B, 3, H, W]
        in 0..1 -> [B, n]."""
        self._images, self._network = images, network.eval().requires_grad_(False)

    def __call__(self, x: Tensor) -> Tensor:
        pictures = self._images(x)
        if pictures is None:
            raise TrainerError("--loss of pictures needs a decoder: name a VAE with --vae, or take --loss l2")
        features: Tensor = self._network.to(x.device)(in_colour(pictures, x.device))
        return features


class Lpips(torch.nn.Module):
    """LPIPS 0.1 with AlexNet (Zhang et al. 2018, equation 1) as a vector, whose mean squared difference it is."""

    def __init__(self, network: Any) -> None:
        """network: `lpips.LPIPS`."""
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """[B, 3, height, width] in 0..1 -> [B, n]."""
        shortest, longest = LPIPS_PIXELS
        height, width = pictures.shape[-2:]
        scale = max(min(1.0, longest / max(height, width)), shortest / min(height, width))
        if scale != 1:
            size = (round(height * scale), round(width * scale))
            pictures = functional.interpolate(pictures, size, mode="bilinear", antialias=True)
        layers = self.network.net(self.network.scaling_layer(2 * pictures - 1))
        vectors = [self._weighted(layer, lin) for layer, lin in zip(layers, self.network.lins, strict=True)]
        vector = torch.cat(vectors, 1)
        return vector * math.sqrt(vector.shape[1])

    @staticmethod
    def _weighted(layer: Tensor, lin: Any) -> Tensor:
        normalised = layer / (layer.square().sum(1, keepdim=True).sqrt() + 1e-10)
        weight = lin.model[-1].weight.clamp_min(0)
        weighted: Tensor = normalised * (weight / math.prod(layer.shape[-2:])).sqrt()
        return weighted.flatten(1)


class Inception(torch.nn.Module):
    """The pooled features that FID compares, 2048 numbers: the DyWeight paper's loss for pixel-space models."""

    def __init__(self, network: Any) -> None:
        """network: `pytorch_fid.inception.InceptionV3`."""
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """[B, 3, height, width] in 0..1 -> [B, 2048]."""
        pooled: Tensor = self.network(pictures)[0]
        return pooled.flatten(1)


def loss_features(loss: LossName, checkpoint: Checkpoint, deviation: Callable[[], float]) -> Features:
    """What a loss compares. deviation: of the targets, for losses of the latent. Raises TrainerError."""
    if loss in ("lpips", "inception"):
        return picture_features(loss, checkpoint)
    if loss != "features":
        return Latent(deviation)
    own = getattr(checkpoint, "features", None)
    if own is None:
        raise TrainerError("--loss features needs a checkpoint with features(x), and this one has none: take --loss l2")
    return Own(own)


def picture_features(loss: LossName, checkpoint: Checkpoint) -> Features:
    """What `--loss lpips` and `--loss inception` compare. Raises TrainerError with what to install or to give."""
    images = getattr(checkpoint, "images", None)
    if images is None:
        raise TrainerError(f"--loss {loss} compares pictures, but this checkpoint has no images(x): take --loss l2")
    with loading(f"--loss {loss}", INSTALL):
        return Pictures(images, Lpips(load_lpips()) if loss == "lpips" else load_inception())


@contextmanager
def loading(option: str, install: str) -> Iterator[None]:
    """TrainerError that names the option where a library or its weights are missing. install: what helps."""
    try:
        yield
    except ImportError as error:
        raise TrainerError(f"{option} needs {error.name or error}, which is not installed: {install}") from error
    except OSError as error:
        raise TrainerError(
            f"{option}: the library could not load its weights ({error}); it keeps them in {torch.hub.get_dir()}"
        ) from error


def load_lpips() -> Any:
    """`lpips.LPIPS` with AlexNet, whose weights torchvision downloads on first use."""
    import lpips

    return lpips.LPIPS(net="alex", verbose=False)


def load_inception() -> Inception:
    """FID's network, whose weights pytorch-fid downloads on first use."""
    from pytorch_fid.inception import InceptionV3

    return Inception(InceptionV3())
