"""What the callers of the pack's functions know and ComfyUI does not hand on."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Hidden:
    """What ComfyUI puts on the model that it hands a sampler; None where it is not to be found."""

    guider: Any
    noise: Tensor | None
    """[B, ...] as drawn; zeros where noise is switched off."""
    latent_image: Tensor | None
    """[B, ...] what an inpainting mask keeps."""


def hidden(model: Any, kind: Any) -> Hidden:
    """A sampler that wraps this one hands over a plain function without the noise and the latent.

    They are then found with the model of a caller: the nearest one that ComfyUI made for the same guider.
    kind: ComfyUI's class of such models.
    """
    guider, found = getattr(model, "inner_model", None), model
    if not hasattr(model, "latent_image"):
        values = (value for frame in callers() for value in list(frame.values()) if isinstance(value, kind))
        found = next((value for value in values if value.inner_model is guider), model)
    return Hidden(guider, getattr(found, "noise", None), getattr(found, "latent_image", None))


def callers() -> Iterator[dict[str, Any]]:
    """The local variables of all callers, the nearest first."""
    frame = inspect.currentframe()
    while frame is not None:
        yield frame.f_locals
        frame = frame.f_back
