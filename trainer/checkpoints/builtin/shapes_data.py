"""Training pictures for small models: a shape in one colour on a plain ground, 16 x 16 pixels, drawn on demand.

`train_shapes.py` and `train_tiny_flux.py` in `tools/models/` train on them.
"""

import math

import torch
from torch import Tensor

SHAPES = ("disc", "square", "triangle")
COLOURS = {
    "red": (0.9, -0.6, -0.6),
    "green": (-0.6, 0.7, -0.5),
    "blue": (-0.6, -0.4, 0.9),
    "yellow": (0.9, 0.8, -0.6),
    "white": (0.9, 0.9, 0.9),
    "violet": (0.5, -0.5, 0.8),
}
GROUNDS = {"dark": -0.8, "bright": 0.4}
PROMPTS = [f"{colour} {shape}, {ground}" for shape in SHAPES for colour in COLOURS for ground in GROUNDS]
PER_SHAPE = len(COLOURS) * len(GROUNDS)
PIXELS = 16


def draw(prompts: Tensor, generator: torch.Generator) -> Tensor:
    """prompts [B], their numbers -> pictures [B, 3, 16, 16] in -1..1, each with a random place, size and turn."""
    axis = (torch.arange(PIXELS) + 0.5) / PIXELS * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    u = torch.rand(len(prompts), 4, generator=generator).T[..., None, None]
    radius, turn = 0.45 + 0.3 * u[0], (u[1] - 0.5) * math.pi / 4
    cx, cy = (u[2] - 0.5) * 0.5, (u[3] - 0.5) * 0.5
    dx, dy = (x - cx) / radius, (y - cy) / radius
    rx, ry = dx * torch.cos(turn) - dy * torch.sin(turn), dx * torch.sin(turn) + dy * torch.cos(turn)
    inside = torch.stack(
        [
            1 - (rx**2 + ry**2).sqrt(),
            0.85 - torch.maximum(rx.abs(), ry.abs()),
            torch.minimum(0.55 - ry, (ry + 1.0) / 2 - rx.abs()),
        ]
    )[prompts // PER_SHAPE, torch.arange(len(prompts))]
    cover = torch.sigmoid(inside * radius * PIXELS)[:, None]
    ink = torch.tensor(list(COLOURS.values()))[prompts // len(GROUNDS) % len(COLOURS)][..., None, None]
    ground = torch.tensor(list(GROUNDS.values()))[prompts % len(GROUNDS)][:, None, None, None]
    return ground * (1 - cover) + ink * cover
