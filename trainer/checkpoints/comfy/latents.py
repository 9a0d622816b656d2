"""The latent of a ComfyUI model: how large it is, and how picture and sound are packed into one."""

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...run.errors import CheckpointError


@dataclass(frozen=True)
class Latent:
    """One sample: the picture or video, and perhaps a sound with it."""

    streams: tuple[tuple[int, ...], ...]
    """The shape of each, without the batch."""

    @property
    def shape(self) -> tuple[int, ...]:
        """What a sampler gets, without the batch: several streams are packed into [1, numbers]."""
        if len(self.streams) == 1:
            return self.streams[0]
        return (1, sum(map(math.prod, self.streams)))

    def empty(self, batch: int) -> Any:
        """What ComfyUI's guider gets for `batch` samples: zeros, nested where there are several streams."""
        zeros = [torch.zeros(batch, *stream) for stream in self.streams]
        return zeros[0] if len(zeros) == 1 else importlib.import_module("comfy.nested_tensor").NestedTensor(zeros)

    def picture(self, x: Tensor) -> Tensor:
        """[B, *shape] -> the picture or video in it, [B, *streams[0]]."""
        return x.reshape(len(x), -1)[:, : math.prod(self.streams[0])].reshape(len(x), *self.streams[0])


def latent_of(model: Any, size: tuple[int, int], frames: int) -> Latent:
    """The latent of ComfyUI's BaseModel for a picture of this width and height and this many frames.

    A model of sound alone has a latent of `frames` numbers a channel. Raises CheckpointError for a size that the
    latents do not divide.
    """
    form, (width, height) = model.latent_format, size
    down, family = downscale(form), type(model.model_config).__name__
    if width % down or height % down:
        raise CheckpointError(f"--width {width} and --height {height} must be multiples of {down}")
    if family == "MiniMaxH3":  # its frames come in groups, and the sound follows them
        nodes = importlib.import_module("comfy_extras.nodes_minimax_h3")
        return _streams(nodes.EmptyMiniMaxH3LatentAV.execute(width, height, frames).args[0]["samples"].unbind())
    space = [height // down, width // down]
    if form.latent_dimensions == 1:
        return Latent(((form.latent_channels, frames),))
    if form.latent_dimensions == 3:
        space.insert(0, (frames - 1) // max(1, getattr(form, "temporal_downscale_ratio", 4)) + 1)
    video = (form.latent_channels, *space)
    if family == "LTXAV":
        network = model.diffusion_model
        # 25 latents of sound a second, and 25 frames a second where conditions do not say otherwise
        return Latent((video, (network.num_audio_channels, frames, network.audio_frequency_bins)))
    return Latent((video,))


def downscale(latent_format: Any) -> int:
    """Pixels along one side of a latent's number; 8 in versions of ComfyUI whose formats do not say."""
    return int(getattr(latent_format, "spacial_downscale_ratio", 8))


def _streams(tensors: Sequence[Tensor]) -> Latent:
    return Latent(tuple(tuple(tensor.shape[1:]) for tensor in tensors))
