"""Pictures of a fit: endpoints from the same noise beside each other."""

from collections.abc import Sequence
from typing import Any

import latent_preview
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

MARGIN = 4
_GREY, _LIGHT = (24, 24, 24), (230, 230, 230)


def comparison(checkpoint: Any, latents: Tensor, names: Sequence[str]) -> Tensor:
    """[1, height, width, 3] in 0..1: a row for each prompt, with a column under each name.

    checkpoint: the trainer's, of the canvas. latents: [prompts, names, *shape].
    """
    columns = len(names)
    flat = latents.flatten(0, 1)
    images = [_decoded(checkpoint, latent) or rough_picture(checkpoint, latent) for latent in flat]
    width, height = images[0].size
    scale = max(1, -(-128 // width))  # of a tiny latent, so that its names can be read
    width, height = scale * width, scale * height
    font = ImageFont.load_default(max(12, height // 20))
    head = font.getbbox("Ag")[3] + 2 * MARGIN
    rows = len(images) // columns
    sheet = Image.new("RGB", (columns * (width + MARGIN) - MARGIN, head + rows * (height + MARGIN) - MARGIN), _GREY)
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(names):
        draw.text((column * (width + MARGIN) + MARGIN, MARGIN), name, _LIGHT, font)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        place = (column * (width + MARGIN), head + row * (height + MARGIN))
        sheet.paste(image.resize((width, height), Image.Resampling.NEAREST) if scale > 1 else image, place)
    return torch.from_numpy(np.asarray(sheet, np.float32) / 255)[None]


def _decoded(checkpoint: Any, latent: Tensor) -> Image.Image | None:
    """By the VAE; None without one, or with one of another model or too large for the memory."""
    try:
        image = checkpoint.images(latent[None])
        return None if image is None else as_pillow(image)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError):
        return None


def small_picture(checkpoint: Any, latent: Tensor) -> Image.Image | None:
    """Of a latent [*shape], by the user's preview method; None where previews are off, or it makes no still picture."""
    patcher, x = checkpoint.patcher, checkpoint.without_sound(latent[None])
    try:
        previewer = latent_preview.get_previewer(patcher.load_device, patcher.model.latent_format)
        found = None if previewer is None else previewer.decode_latent_to_preview(x.to(patcher.load_device))
    except Exception:  # other packs put previews of their own in its place, and no fit is worth less than a preview
        return None
    return found if isinstance(found, Image.Image) else None


def rough_picture(checkpoint: Any, latent: Tensor) -> Image.Image:
    """Of a latent [*shape] without a VAE: ComfyUI's colours for its channels, grey where there are none."""
    form, x = checkpoint.patcher.model.latent_format, checkpoint.without_sound(latent[None]).float().cpu()
    factors = getattr(form, "latent_rgb_factors", None)
    more = getattr(form, "latent_rgb_factors_reshape", None)
    if factors is None or x.ndim < 4 or (x if more is None else more(x)).shape[1] != len(factors):
        flat = x.reshape(1, -1)[:, : int(x.numel() ** 0.5) ** 2].reshape(int(x.numel() ** 0.5), -1)
        return Image.fromarray(((flat / 4 + 0.5).clamp(0, 1) * 255).byte().numpy()).convert("RGB")
    bias = getattr(form, "latent_rgb_factors_bias", None)
    made: Image.Image = latent_preview.Latent2RGBPreviewer(factors, bias, more).decode_latent_to_preview(x)
    return made


def as_pillow(image: Tensor) -> Image.Image:
    """[1, height, width, 3] in 0..1"""
    return Image.fromarray((image[0].clamp(0, 1) * 255).round().byte().numpy())
