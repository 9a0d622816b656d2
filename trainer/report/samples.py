"""The picture of a few samples: a row for each sampler, a column for each noise and prompt."""

import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from einops import rearrange, repeat
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from torch import Tensor
from torch.nn import functional

from ..checkpoints.protocol import FullCheckpoint
from . import curves
from .curves import DPI, INK, MUTED, TEXT, TITLE, PathLike

CELL, GAP = 112, 6
"""Pixels: the longest side of a sample, and the gap between two."""
TINY, LINES = 5.5, 3
"""Points and lines of a caption."""
LINE_HEIGHT, LETTER_WIDTH = 1.2, 0.62
"""Relative to the size of the font; most texts are narrower."""
MISSING = "\N{WHITE SQUARE}"


def samples(grid: Mapping[str, Tensor], path: PathLike, title: str = "", captions: Sequence[str] | None = None) -> None:
    """A picture with a row for each sampler and a column for each noise.

    grid: label -> [count, height, width] or [count, height, width, 3] in 0..1; the first is the teacher. captions: the
    text above each column, shortened to fit.
    """
    rows = [_strip(images) for images in grid.values()]
    page = torch.ones(sum(len(row) + GAP for row in rows), max(row.shape[1] for row in rows), 3)
    figure = Figure((page.shape[1] / DPI, page.shape[0] / DPI), DPI, facecolor="white")
    axes, top = figure.add_axes((0, 0, 1, 1), frame_on=False, xticks=[], yticks=[]), 0
    for label, row in zip(grid, rows, strict=True):
        page[top : top + len(row), : row.shape[1]] = row
        style: dict[str, Any] = {"fontsize": TEXT, "color": INK, "weight": "normal" if top else "bold"}
        axes.text(-2 * GAP, top + len(row) / 2, label, ha="right", va="center", **style)
        top += len(row) + GAP
    axes.imshow(page.numpy(), interpolation="nearest")
    above = 0
    if captions:
        count = len(next(iter(grid.values())))
        column = (page.shape[1] + GAP) // count
        texts = [shortened(caption, column - GAP) for caption in captions[:count]]
        above = max(text.count("\n") + 1 for text in texts)
        style = {"fontsize": TINY, "color": MUTED, "linespacing": LINE_HEIGHT}
        for i, text in enumerate(texts):
            axes.text(i * column, -GAP, text, ha="left", va="bottom", **style)
    pad = 6 + above * TINY * LINE_HEIGHT
    axes.set_title(title, loc="left", fontsize=TITLE, color=INK, weight="bold", pad=pad)
    curves.write(figure, path)


def shortened(caption: str, width: int) -> str:
    """A caption in at most LINES lines of this width in pixels; letters that no font has become MISSING."""
    letters = max(4, int(width * 72 / DPI / TINY / LETTER_WIDTH))
    known = "".join(letter if letter.isspace() or _drawable(letter) else MISSING for letter in caption)
    # A mark for the second column of each wide letter, which is removed again.
    wide = "".join(letter + "\0" * _is_wide(letter) for letter in known)
    lines = textwrap.wrap(wide, letters)
    if len(lines) > LINES:
        lines[LINES - 1 :] = [lines[LINES - 1][: letters - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"]
    return "\n".join(lines).replace("\0", "")


def _is_wide(letter: str) -> bool:
    """East Asian letters and MISSING are about twice as wide as the others."""
    return letter == MISSING or unicodedata.east_asian_width(letter) in "WF"


def _drawable(letter: str) -> bool:
    return any(get_font(findfont(name)).get_char_index(ord(letter)) for name in curves.fonts())


def _strip(images: Tensor) -> Tensor:
    """images [count, height, width] or [.., 3] side by side: [h, w, 3]; small ones are enlarged by a whole factor."""
    images = images.detach().float().cpu().nan_to_num().clamp(0, 1)
    images = repeat(images, "n h w -> n c h w", c=3) if images.ndim == 3 else rearrange(images, "n h w c -> n c h w")
    side = max(images.shape[2:])
    scale, mode = (CELL / side, "area") if side > CELL else (CELL // side, "nearest")
    images = functional.interpolate(images, scale_factor=scale, mode=mode)
    return rearrange(functional.pad(images, (0, GAP), value=1.0), "n c h w -> h (n w) c")[:, :-GAP]


def as_images(latents: Tensor, checkpoint: FullCheckpoint) -> Tensor | None:
    """latents [B, *shape] -> [B, H, W] or [B, H, W, 3] in 0..1 on the CPU; None if they are not pictures.

    Decoded by the checkpoint's `images` if it has one. Otherwise the first three channels or the first one (of a
    video's middle frame), scaled by the 1 % and 99 % quantiles: give all samplers in one batch for a common scale.
    """
    with torch.no_grad():
        decoded = checkpoint.images(latents)
        if decoded is not None:
            return decoded.float().cpu().clamp(0, 1)
        latents = latents[:, :, latents.shape[2] // 2] if latents.ndim == 5 else latents
        if latents.ndim != 4:
            return None
        images: Tensor = latents[:, : 3 if latents.shape[1] >= 3 else 1].float().cpu().nan_to_num()
        low, high = np.quantile(images.numpy(), [0.01, 0.99])
        images = ((images - low) / max(high - low, 1e-12)).clamp(0, 1)
        return rearrange(images, "n c h w -> n h w c") if images.shape[1] == 3 else images[:, 0]
