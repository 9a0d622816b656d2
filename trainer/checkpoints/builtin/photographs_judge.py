"""A small classifier of photographs, whose features tell how alike two pictures, or two sets of pictures, look.

What Inception is to the papers' models, without a download: its features are what `--loss features` compares on
`photographs`, and a Fréchet distance between Gaussians of them, with FID's formula (Heusel et al. 2017,
arXiv:1706.08500), tells samples from photographs. It is not FID, and its values compare only with one another.
`python -m tools.models.train_photographs_judge` recreates the weights.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from ...run.errors import CheckpointError
from .photographs_network import CLASSES

WEIGHTS = Path(__file__).parents[3] / "tools" / "models" / "photographs-judge.safetensors"
FEATURES = 128
PIXELS = 16


def convolution(before: int, after: int) -> nn.Sequential:
    """A 3 x 3 convolution, normalised over the batch, with its activation."""
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.SiLU())


class Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(convolution(width, width), convolution(width, width))

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [B, width, H, W] -> the same shape."""
        result: Tensor = hidden + self.layers(hidden)
        return result


class Judge(nn.Module):
    """A residual network from 16 x 16 over 8 x 8 to 4 x 4, whose mean over the pixels are the features."""

    mean: Tensor
    covariance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(convolution(3, 32), convolution(32, 64), nn.MaxPool2d(2), Residual(64)),
            *(convolution(64, FEATURES), nn.MaxPool2d(2), Residual(FEATURES)),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
        self.answer = nn.Linear(FEATURES, len(CLASSES))
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("covariance", torch.eye(FEATURES))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures [B, 3, H, W] in 0..1 -> features [B, 128]; larger pictures than 16 x 16 are made smaller."""
        if pictures.shape[-1] != PIXELS:
            pictures = functional.interpolate(pictures, size=(PIXELS, PIXELS), mode="area")
        features: Tensor = self.layers((2 * pictures - 1).contiguous(memory_format=torch.channels_last))
        return features


def judge(weights: Path = WEIGHTS) -> Judge:
    """The classifier, frozen; `mean` and `covariance` are of its features of the 50,000 training photographs."""
    if not weights.exists():
        raise CheckpointError(
            f"{weights} is missing: take it from the repository, since the published pack leaves it out, or recreate "
            "it with `python -m tools.models.train_photographs_judge` (needs CIFAR-10)"
        )
    network = Judge()
    network.load_state_dict(load_file(weights))
    return network.eval().requires_grad_(False)
