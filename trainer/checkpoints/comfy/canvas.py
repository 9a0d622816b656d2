"""The model on ComfyUI's canvas, with its LoRAs, patches and prompts as they are there."""

import copy
import hashlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from comfyui.behaviour import acts_on_predictions
from comfyui.facts import cfg_scale, noise_scale

from ...pairs.digest import digest
from ...run.errors import CheckpointError
from .asked import Asked, Settings, refuse_intervals
from .caches import refuse_caches
from .conditions import GUIDANCE, Condition, conditioning
from .experts import check_experts, noise_level
from .families import family_of
from .guided import Guided, Texts
from .latents import Latent, downscale
from .schedules import schedule

DOWNSCALED = ("downscale_ratio_spacial", "downscale_ratio_temporal")
"""Of which model's latents an empty one is, where it says so: that of another becomes larger or smaller."""
Conditioning = list[Any]
"""ComfyUI's CONDITIONING: [cross_attn or None, more by name] of each entry."""


class Prompts:
    """The conditions of the canvas, as they are."""

    prompts: list[str] | None = None

    def __init__(self, given: Sequence[Conditioning]) -> None:
        """Raises CheckpointError where one is not CONDITIONING."""
        for number, one in enumerate(given, 1):
            if not isinstance(one, list) or not one or not all(_is_entry(entry) for entry in one):
                raise CheckpointError(
                    "positive {number} is not CONDITIONING: connect the output of a text encoder", number=number
                )
        self.given = [[[entry[0], dict(entry[1])] for entry in one] for one in given]

    def __len__(self) -> int:
        return len(self.given)

    def prepare(self, numbers: Sequence[int]) -> None:
        pass

    def __getitem__(self, number: int) -> Condition:
        cross_attn, extra = self.given[number][0]
        return Condition(torch.zeros(1, 0, 0) if cross_attn is None else cross_attn, extra)

    def batch(self, chosen: Sequence[int]) -> Conditioning | None:
        """Of these prompts at once; None where they must go one by one."""
        if len(chosen) == 1:
            return self.given[chosen[0]]
        entries = [self.given[number] for number in chosen]
        plain = all(len(one) == 1 and one[0][0] is not None and len(one[0][0]) == 1 for one in entries)
        return conditioning([self[number] for number in chosen]) if plain else None


@dataclass(frozen=True)
class LowExpert:
    """The network for the low noise levels of a model of two experts, as in Wan 2.2."""

    name: str
    guider: Any
    """ComfyUI's GUIDER around it"""
    boundary: str
    """The noise level below which it runs, or the step with which it begins: as `noise_level` reads it."""


class CanvasCheckpoint(Asked):
    """A checkpoint made of what is connected to a node."""

    def __init__(
        self,
        name: str,
        guider: Any,
        positive: Sequence[Conditioning],
        latent: Mapping[str, Any],
        scheduler: str,
        vae: Any = None,
        low: LowExpert | None = None,
    ) -> None:
        """name: of the model, for errors and the file. guider: ComfyUI's GUIDER; it is left as it is. positive: the
        prompts; none for the guider's own. latent: a LATENT, for its shape. low: where there are two.

        Raises CheckpointError with what to do.
        """
        guiders = [copy.copy(one) for one in (guider, *([] if low is None else [low.guider]))]
        for one in guiders:
            one.original_conds = dict(one.original_conds)
            refuse_intervals(name, one.model_patcher.model)
            refuse_caches(one.model_options)
        guider, patcher = guiders[0], guiders[0].model_patcher
        self._plain = all(map(_is_plain, guiders))
        self._vae, self._low = vae, low
        self._own = not positive
        known = Prompts(positive or [_entries(guider.original_conds.get("positive"))])
        self.guider_kind, self.cfg = type(guider).__name__, cfg_scale(guider)
        self.guidance = known[0].extra.get(GUIDANCE)
        shape = latent_on_canvas(patcher, latent)
        space, down = shape.streams[0][-2:], downscale(patcher.model.latent_format)
        size, boundary = (down * space[-1], down * space[0]), None
        if low is not None:
            sampling = patcher.get_model_object("model_sampling")
            boundary = noise_level(low.boundary, lambda steps: schedule(scheduler, steps, sampling, shape, size))
            check_experts(patcher, low.guider.model_patcher, boundary, "model_low")
        settings = Settings(
            name,
            shape,
            size,
            scheduler,
            family_of(patcher.model.model_config).one_prompt_a_call,
            boundary,
            what_to_check="the conditions and the size of the latent",
            how_to_make_smaller="connect a smaller latent, or a model in fewer bits",
        )
        super().__init__(settings, [Guided(one, shape) for one in guiders], known)
        self._known, self._opposed = known, guider.original_conds
        self.width, self.height = settings.size

    @property
    def made_for(self) -> dict[str, Any]:
        """As `ComfyCheckpoint.made_for`, as far as the canvas says it."""
        return {
            "cfg": self.cfg,
            "noise_scale": noise_scale(self._sampling),
            "guider": self.guider_kind,
            "scheduler": self.scheduler,
            "model_low": self._low and self._low.name,
            "boundary": self.settings.boundary,
            "width": self.width,
            "height": self.height,
            "prompts": self.prompts,
            "conditions_digest": self.conditions_digest,
        }

    @cached_property
    def conditions_digest(self) -> str | None:
        """None where a condition holds something without one, as a ControlNet."""
        opposed = {name: _entries(conds) for name, conds in self._opposed.items() if self._own or name != "positive"}
        try:
            return digest([self._known.given, opposed])
        except TypeError:
            return None

    @cached_property
    def fingerprint(self) -> str | None:
        """Of the sketch of the network and of what it is told; None where only its answers tell: of a condition without
        a digest, a guider with more than a cfg, functions that change guidance."""
        sketch = self.sketch()
        told = [sketch, self.conditions_digest, self.cfg, self.guidance, self.shift, self.shape, self.scheduler]
        told += [] if self._low is None else [self.settings.boundary]
        unknown = sketch is None or self.conditions_digest is None or not self._plain
        return None if unknown else "canvas-" + hashlib.sha256(repr(told).encode()).hexdigest()[:24]

    @property
    def patcher(self) -> Any:
        """ComfyUI's MODEL."""
        return self._patcher

    def without_sound(self, x: Tensor) -> Tensor:
        """x [B, *shape] -> the latent of its picture or video alone."""
        return self.settings.latent.picture(x)

    def vae(self) -> Any:
        """As `Asked.vae`."""
        return self._vae

    def texts(self, chosen: list[int]) -> Texts | None:
        """As `Asked.texts`."""
        if self._own:
            return {}
        batch = self._known.batch(chosen)
        return None if batch is None else {"positive": batch}


def _is_plain(guider: Any) -> bool:
    """Whether a GUIDER is ComfyUI's own with a cfg, around a network alone."""
    own = type(guider).__module__.startswith(("comfy.", "comfy_extras."))
    acting = acts_on_predictions(guider.model_patcher, guider.model_options)
    return own and cfg_scale(guider) is not None and not acting


def latent_on_canvas(patcher: Any, latent: Mapping[str, Any]) -> Latent:
    """The shape of one sample of a LATENT, as KSampler takes it. Raises CheckpointError."""
    sample = importlib.import_module("comfy.sample")
    scaled = {name: latent[name] for name in DOWNSCALED if latent.get(name) is not None}  # since ComfyUI 0.20
    try:
        fixed = sample.fix_empty_latent_channels(patcher, latent.get("samples"), **scaled)
        streams = fixed.unbind() if fixed.is_nested else [fixed]
    except (AttributeError, RuntimeError, IndexError, TypeError) as error:
        raise CheckpointError("latent: connect the empty latent of this model ({reason})", reason=error) from error
    wanted = patcher.get_model_object("latent_format").latent_channels
    if not fixed.is_nested and fixed.shape[1] != wanted:
        raise CheckpointError(
            "latent: connect the empty latent of this model: it has {wanted} channels, the one given {given}",
            wanted=wanted,
            given=fixed.shape[1],
        )
    return Latent(tuple(tuple(stream.shape[1:]) for stream in streams))


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, list | tuple)
        and len(entry) == 2
        and isinstance(entry[1], dict)
        and (entry[0] is None or isinstance(entry[0], Tensor))
    )


def _entries(conds: list[dict[str, Any]] | None) -> Conditioning:
    """What a guider holds -> CONDITIONING."""
    kept = [{key: value for key, value in cond.items() if key not in ("uuid", "model_conds")} for cond in conds or []]
    return [[cond.pop("cross_attn", None), cond] for cond in kept]
