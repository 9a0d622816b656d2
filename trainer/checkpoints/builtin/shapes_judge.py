"""A small classifier of the drawn pictures, whose features `--loss features` compares on `shapes`.

It plays the part of Inception for the papers' pixel-space models, without a download: trained on the same kind of
pictures, it recognises shape, colour and ground, and its features before the last layer show how similar two pictures
look. `python -m tools.models.train_shapes_judge` recreates the weights.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from . import shapes_data

WEIGHTS = Path(__file__).with_name("shapes_judge.safetensors")
FEATURES = 64
ANSWERS = (len(shapes_data.SHAPES), len(shapes_data.COLOURS), len(shapes_data.GROUNDS))


def convolution(before: int, after: int, stride: int) -> tuple[nn.Module, ...]:
    """A 3 x 3 convolution from `before` to `after` channels, normalised, with its activation."""
    return nn.Conv2d(before, after, 3, stride, padding=1), nn.GroupNorm(after // 8, after), nn.SiLU()


class Judge(nn.Module):
    """Three convolutions and a layer make 64 features, from which one more layer tells shape, colour and ground."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *convolution(3, 16, stride=1),
            *convolution(16, 32, stride=2),
            *convolution(32, 32, stride=2),
            nn.Flatten(),
            nn.Linear(32 * (shapes_data.PIXELS // 4) ** 2, FEATURES),
            nn.SiLU(),
        )
        self.answer = nn.Linear(FEATURES, sum(ANSWERS))

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures [B, 3, 16, 16] in 0..1 -> features [B, 64]."""
        features: Tensor = self.layers(2 * pictures - 1)
        return features

    def answers(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """pictures [B, 3, 16, 16] in 0..1 -> scores of the shapes [B, 3], the colours [B, 6] and the grounds [B, 2]."""
        return torch.split(self.answer(self(pictures)), list(ANSWERS), 1)


def judge(weights: Path = WEIGHTS) -> Judge:
    """The shipped classifier, frozen."""
    network = Judge()
    network.load_state_dict(load_file(weights))
    return network.eval().requires_grad_(False)
