"""A model file as ComfyUI loads it, with its LoRAs, shift and dtype, and the text encoder and VAE that go with it."""

import copy
import hashlib
import importlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from dyweight.names import did_you_mean

from ...errors import CheckpointError
from .families import default_vae
from .installation import find_file
from .options import ComfyOptions

_DTYPES = {
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
}
_SAMPLED_BYTES, _SAMPLES = 1 << 16, 64


class Loaded:
    """A diffusion model ready to sample; text encoder and VAE are loaded when asked for."""

    def __init__(self, path: Path, patcher: Any, options: ComfyOptions) -> None:
        self.path, self.patcher, self._options = path, patcher, options
        self.family = type(patcher.model.model_config).__name__
        self.text_files: list[Path] = [path] if options.clip is None and _holds(path, _TEXT_KEYS) else []
        """The model's own file where it holds its text encoders."""
        self.downscale: int = getattr(patcher.model.latent_format, "spacial_downscale_ratio", 8)
        self.digest = _digest(path) + "".join(f" {lora}" for lora in options.lora)
        self._vae: Any = None

    def clip(self, files: Sequence[Path], kind: str) -> Any:
        """ComfyUI's CLIP of these files."""
        sd = importlib.import_module("comfy.sd")
        if list(files) == self.text_files:
            return sd.load_checkpoint_guess_config(str(self.path), output_vae=False, output_model=False)[1]
        names = {member.name.lower(): member for member in sd.CLIPType}
        if kind.lower() not in names:
            raise CheckpointError(
                f"--clip-type {kind!r}: {did_you_mean(kind.lower(), tuple(names))}ComfyUI has {', '.join(names)}"
            )
        return sd.load_clip([str(file) for file in files], clip_type=names[kind.lower()])

    def vae(self) -> Any:
        """ComfyUI's VAE, None where there is none."""
        if self._vae is None:
            self._vae = self._load_vae() or False
        return self._vae or None

    def _load_vae(self) -> Any:
        sd, utils = importlib.import_module("comfy.sd"), importlib.import_module("comfy.utils")
        if self._options.vae is None and _holds(self.path, _VAE_KEYS):
            return sd.load_checkpoint_guess_config(str(self.path), output_clip=False, output_model=False)[2]
        named = self._options.vae
        path = find_file(named, ("vae",), "--vae") if named else default_vae(self.family)
        return None if path is None else sd.VAE(sd=utils.load_torch_file(str(path)))


def loaded(path: Path, options: ComfyOptions) -> Loaded:
    """Load a checkpoint or diffusion model. Raises CheckpointError where ComfyUI does not know it."""
    sd = importlib.import_module("comfy.sd")
    model_options = {} if options.dtype == "default" else {"dtype": _DTYPES[options.dtype]}
    try:
        if _holds(path, ("model.diffusion_model.",)):
            patcher = sd.load_checkpoint_guess_config(
                str(path), output_vae=False, output_clip=False, model_options=model_options
            )[0]
        else:
            patcher = sd.load_diffusion_model(str(path), model_options=model_options)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"--ckpt {path}: ComfyUI can't load it ({error})") from error
    if patcher is None:
        raise CheckpointError(f"--ckpt {path}: ComfyUI does not know this kind of model; is ComfyUI new enough?")
    for lora in options.lora:
        patcher = _with_lora(patcher, *options.lora_strength(lora))
    if options.shift is not None:
        patcher = _with_shift(patcher, options.shift)
    return Loaded(path, patcher, options)


def _with_lora(patcher: Any, name: str, strength: float) -> Any:
    sd, utils = importlib.import_module("comfy.sd"), importlib.import_module("comfy.utils")
    path = find_file(name, ("loras",), "--lora")
    weights = utils.load_torch_file(str(path), safe_load=True)
    return sd.load_lora_for_models(patcher, None, weights, strength, 0.0)[0]


def _with_shift(patcher: Any, shift: float) -> Any:
    sampling = copy.deepcopy(patcher.get_model_object("model_sampling"))
    if not hasattr(sampling, "shift"):
        raise CheckpointError(f"--shift {shift:g}: the schedule of this model has no shift; leave it out")
    sampling.set_parameters(shift=shift)
    clone = patcher.clone()
    clone.add_object_patch("model_sampling", sampling)
    return clone


_TEXT_KEYS = ("cond_stage_model.", "conditioner.", "text_encoders.")
_VAE_KEYS = ("first_stage_model.", "vae.")


@cache
def _keys(path: Path) -> tuple[str, ...]:
    if path.suffix in (".safetensors", ".sft"):
        with importlib.import_module("safetensors").safe_open(path, framework="pt") as file:
            return tuple(file.keys())
    return tuple(importlib.import_module("comfy.utils").load_torch_file(str(path), safe_load=True))


def _holds(path: Path, beginnings: Sequence[str]) -> bool:
    try:
        return any(key.startswith(tuple(beginnings)) for key in _keys(path))
    except Exception as error:  # whatever the reader of the format raises for a file that is none
        raise CheckpointError(f"--ckpt {path}: the file can't be read ({error}); get it again") from error


def _digest(path: Path) -> str:
    """Of the size and 64 pieces spread over the file: reading all of a large model would take minutes."""
    size, found = path.stat().st_size, hashlib.sha256(str(path.stat().st_size).encode())
    with path.open("rb") as file:
        for i in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLED_BYTES) * i // (_SAMPLES - 1))
            found.update(file.read(_SAMPLED_BYTES))
    return found.hexdigest()[:24]
