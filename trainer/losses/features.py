"""What a loss compares: the latent itself, or features of it or its picture by the checkpoint or a library."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ..checkpoints.protocol import FullCheckpoint
from ..run.errors import TrainerError

LPIPS_PIXELS = (64, 256)
"""Shortest and longest side of a picture for LPIPS, whose network is calibrated on 64 pixels and can't take fewer."""
INSTALL = "pip install lpips pytorch-fid"


def in_colour(pictures: Tensor, device: torch.device) -> Tensor:
    """pictures [B, height, width] or [B, height, width, 3] -> [B, 3, height, width] in 0..1, as networks take them."""
    coloured = pictures if pictures.ndim == 4 else pictures[..., None].expand(*pictures.shape, 3)
    return coloured.movedim(-1, 1).to(device, torch.float32).clamp(0, 1)


class Features(Protocol):
    """Endpoints as vectors: the mean squared difference of two, over unit^2, is the distance."""

    @property
    def unit(self) -> float:
        """The divisor of a difference."""

    def __call__(self, x: Tensor) -> Tensor:
        """[B, *shape] -> [B, n]."""


class Latent:
    """The latent's own elements, in standard deviations of the targets."""

    def __init__(self, unit: float | Callable[[], float]) -> None:
        """unit: the deviation, or a function that finds it when it is needed."""
        self._unit = unit

    @property
    def unit(self) -> float:
        return self._unit() if callable(self._unit) else self._unit

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class Own:
    """A checkpoint's own `features(x)`; their scale decides the distance."""

    unit = 1.0

    def __init__(self, features: Callable[[Tensor], Tensor]) -> None:
        self._features = features

    def __call__(self, x: Tensor) -> Tensor:
        return self._features(x).flatten(1)


class Pictures:
    """Features of decoded pictures by a frozen network, with the distance of its authors."""

    unit = 1.0

    def __init__(self, images: Callable[[Tensor], Tensor | None], network: torch.nn.Module) -> None:
        """images: the checkpoint's, [B, *shape] -> [B, height, width(, 3)] in 0..1. network: [B, 3, H, W] in 0..1 ->
        [B, n]."""
        self._images, self._network = images, network.eval().requires_grad_(False)

    def __call__(self, x: Tensor) -> Tensor:
        pictures = self._images(x)
        assert pictures is not None  # `picture_features` has checked
        features: Tensor = self._network.to(x.device)(in_colour(pictures, x.device))
        return features


class Lpips(torch.nn.Module):
    """LPIPS 0.1 with AlexNet (Zhang et al. 2018, equation 1), the mean squared difference of these vectors."""

    def __init__(self, network: Any) -> None:
        """network: `lpips.LPIPS`."""
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures [B, 3, height, width] in 0..1 -> [B, n]."""
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
    """The 2048 pooled features that FID compares: the DyWeight paper's loss for pixel-space models."""

    def __init__(self, network: Any) -> None:
        """network: `pytorch_fid.inception.InceptionV3`."""
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures [B, 3, height, width] in 0..1 -> [B, 2048]."""
        pooled: Tensor = self.network(pictures)[0]
        return pooled.flatten(1)


def loss_features(loss: str, checkpoint: FullCheckpoint, deviation: Callable[[], float]) -> Features:
    """What a loss compares. deviation: of the targets, for losses on the latent. Raises TrainerError."""
    return OF_FEATURES[loss](checkpoint) if loss in OF_FEATURES else Latent(deviation)


def _own(checkpoint: FullCheckpoint) -> Features:
    if checkpoint.features is None:
        raise TrainerError("--loss features needs a checkpoint with features(x), and this one has none: use --loss l2")
    return Own(checkpoint.features)


def picture_features(loss: str, checkpoint: FullCheckpoint, load: Callable[[], torch.nn.Module]) -> Features:
    """What a loss on pictures compares. load: its network. Raises TrainerError with what to install or to give."""
    noise, _ = checkpoint.draw(torch.Generator().manual_seed(0), 1)
    if checkpoint.images(noise) is None:
        raise TrainerError(
            f"--loss {loss} compares pictures, but this checkpoint decodes none: a ComfyUI one needs --vae, your own "
            "an images(x); or use --loss l2"
        )
    with loading(f"--loss {loss}", INSTALL):
        return Pictures(checkpoint.images, load())


@contextmanager
def loading(option: str, install: str) -> Iterator[None]:
    """Raise TrainerError, which names the option, if a library or its weights are missing. install: how to get it."""
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


OF_FEATURES: dict[str, Callable[[FullCheckpoint], Features]] = {
    "lpips": lambda checkpoint: picture_features("lpips", checkpoint, lambda: Lpips(load_lpips())),
    "inception": lambda checkpoint: picture_features("inception", checkpoint, load_inception),
    "features": _own,
}
"""name of a loss -> what it compares instead of the latent"""
