"""What is known about the model at hand, and where it differs from what a solver was made for."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..comfyui.behaviour import answers, patches
from ..comfyui.facts import answers_for_interval, cfg_scale, family_of, noise_scale, pixels_per_latent, prediction_type
from ..dyweight import SolverFile
from ..dyweight.sketch import OTHER, nearest, sketch
from . import messages
from .summary import number, size

_SETTINGS = {
    "cfg": messages.SET_CFG,
    "guidance": messages.SET_GUIDANCE,
    "shift": messages.SET_SHIFT,
    "noise_scale": messages.OTHER_NOISE,
}


_sketched: dict[Any, list[float] | None] = {}
"""Of the latest models, by the model and its patches of weights and of attention."""
_REMEMBERED = 8


@dataclass(frozen=True)
class ModelFacts:
    """None where ComfyUI does not say."""

    family: str | None = None
    """ComfyUI's name for the architecture, such as Flux, SD15, SDXL, WAN21_T2V."""
    prediction_type: str | None = None
    shift: float | None = None
    cfg: float | None = None
    """Classifier-free guidance scale of the sampler."""
    guidance: float | None = None
    """Guidance that the network takes as an input, as in FLUX.1-dev."""
    shape: tuple[int, ...] | None = None
    """Shape of one latent, without the batch."""
    pixels: int | None = None
    """Pixels of the picture for each position of the latent, across and down."""
    noise_scale: float | None = None
    """Standard deviation of the noise at sigma 1, where it is not 1 for all models of the kind."""
    interval: str | None = None
    """Why the network answers for an interval rather than for a noise level, where it does."""
    sketch: Callable[[], list[float] | None] = lambda: None
    """How the network behaves, as `dyweight.sketch` compares; it takes a few calls of a small picture, once a model."""

    def differences(self, file: SolverFile, own_schedule: bool = True) -> Iterator[tuple[str, str, str]]:
        """(message, value here, value there) of each fact beside the family in which the solver's file differs.

        own_schedule: the solver's own sigmas are used; then the shift of the model changes nothing.
        """
        made_for = file.provenance
        prediction = made_for.get("prediction_type")
        if self.prediction_type and prediction not in (None, self.prediction_type):
            yield messages.OTHER_PREDICTION, self.prediction_type, str(prediction)
        for name, message in _SETTINGS.items():
            here, there = getattr(self, name), number(made_for.get(name))
            matters = not (own_schedule and name == "shift")
            if matters and here is not None and there is not None and not _alike(here, there):
                yield message, f"{here:g}", f"{there:g}"
        sketched: object = made_for.get("sketch")
        if isinstance(sketched, list) and (far := nearest(sketched, self.sketch() or sketched)) > OTHER:
            yield messages.OTHER_MODEL, f"{far:.0%}", ""
        shape = made_for.get("shape")
        every: object = made_for.get("shapes")
        known = every if isinstance(every, list) else []
        if self.shape and shape and list(self.shape) not in [*known, list(shape)]:
            pixels = self.pixels if self.shape[0] == shape[0] else None
            yield messages.SET_SIZE, size(self.shape, pixels), size(shape, pixels)


def facts(guider: Any, x: Any, model_options: dict[str, Any] | None = None) -> ModelFacts:
    """What a guider (what samplers get as the model's inner_model), the latent [B, ...] and the options say."""
    model = getattr(guider, "inner_model", None)
    sampling = getattr(model, "model_sampling", None)
    return ModelFacts(
        family=family_of(model),
        prediction_type=prediction_type(sampling),
        shift=number(getattr(sampling, "shift", None)),
        cfg=cfg_scale(guider),
        guidance=_embedded_guidance(guider),
        shape=tuple(x.shape[1:]),
        pixels=pixels_per_latent(model),
        noise_scale=None if sampling is None else noise_scale(sampling),
        interval=answers_for_interval(model),
        sketch=lambda: _sketch(guider, model_options or {}, x),
    )


def _sketch(guider: Any, model_options: dict[str, Any], x: Any) -> list[float] | None:
    model, patcher = guider.inner_model, getattr(guider, "model_patcher", None)
    key = (id(model), getattr(patcher, "patches_uuid", None), *map(id, patches(model_options)))
    if key not in _sketched:
        while len(_sketched) >= _REMEMBERED:
            _sketched.pop(next(iter(_sketched)))
        found = answers(guider, model_options, x)
        _sketched[key] = None if found is None else sketch(found)
    return _sketched[key]


def same_family(one: str, other: str) -> bool:
    """Whether two names mean the same architecture: case and punctuation do not count."""
    return _plain(one) == _plain(other)


def _embedded_guidance(guider: Any) -> float | None:
    for cond in (getattr(guider, "conds", None) or {}).get("positive") or []:
        value = (cond.get("model_conds") or {}).get("guidance")
        tensor = getattr(value, "cond", None)
        if tensor is not None and tensor.numel() == 1:
            return float(tensor)
    return None


def _plain(name: str) -> str:
    return "".join(c for c in str(name).lower() if c.isalnum())


def _alike(here: float, there: float) -> bool:
    return math.isclose(here, there, rel_tol=1e-3, abs_tol=1e-6)
