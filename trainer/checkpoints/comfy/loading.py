"""A model file as ComfyUI loads it, with its LoRAs, shift and dtype, and the text encoder and VAE that go with it."""

import copy
import hashlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from dyweight.suggest import did_you_mean

from ...run.errors import CheckpointError
from .default_files import default_encoders, default_vae
from .families import PIXELS, family_of
from .installation import find_file
from .latents import latent_of
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
        self.defaults = family_of(patcher.model.model_config)
        width, height = (options.widths[0],) * 2 if options.widths else self.defaults.size
        self.size = (width, options.height or height)
        """Width, height in pixels."""
        self.frames = options.frames or self.defaults.frames
        self.latent = latent_of(patcher.model, self.size, self.frames)
        self.text_files: list[Path] = [path] if options.clip is None and _holds(path, _TEXT_KEYS) else []
        """The model's own file where it holds its text encoders."""
        self._loras = [_lora(lora) for lora in options.lora]
        self.digest = " ".join([file_digest(path), *map(str, self._loras)])
        self.vae_file = self._find_vae()
        """None where there is none: pictures are those of the latents then."""
        self._vae: Any = None

    def of_width(self, width: int) -> "Loaded":
        """The same for pictures of another width."""
        other = copy.copy(self)
        other.size = (width, self._options.height or width)
        other.latent = latent_of(self.patcher.model, other.size, self.frames)
        return other

    @property
    def text_loras(self) -> "list[_Lora]":
        """The LoRAs that change text encoders."""
        return [lora for lora in self._loras if lora.weights(of_text=True)]

    def clip(self, files: Sequence[Path], kind: str) -> Any:
        """ComfyUI's CLIP of these files."""
        sd = importlib.import_module("comfy.sd")
        if list(files) == self.text_files:
            clip = sd.load_checkpoint_guess_config(str(self.path), output_vae=False, output_model=False)[1]
        else:
            names = {member.name.lower(): member for member in sd.CLIPType}
            if kind.lower() not in names:
                raise CheckpointError(
                    f"--clip-type {kind!r}: {did_you_mean(kind.lower(), tuple(names))}ComfyUI has {', '.join(names)}"
                )
            clip = sd.load_clip([str(file) for file in files], clip_type=names[kind.lower()])
        for lora in self.text_loras:
            clip = sd.load_lora_for_models(None, clip, lora.weights(of_text=True), 0.0, lora.strength)[1]
        return clip

    def vae(self) -> Any:
        """ComfyUI's VAE, None where there is none. Raises CheckpointError where the file holds none for this model."""
        if self._vae is None and self.vae_file is not None:
            self._vae = self._load_vae(self.vae_file)
        if self._vae is None and self.defaults.vae == PIXELS:
            sd = importlib.import_module("comfy.sd")
            self._vae = sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
        return self._vae

    def encoders(self) -> list[Path]:
        """The files of the text encoders: the model's own, those of --clip, or those of the family."""
        if self._options.clip is not None:
            return [find_file(name, ("text_encoders",), "--clip") for name in self._options.clip]
        return self.text_files or default_encoders(self.defaults, self.family, self.path)

    def _find_vae(self) -> Path | None:
        if self._options.vae is not None:
            return find_file(self._options.vae, ("vae",), "--vae")
        return self.path if _holds(self.path, _VAE_KEYS) else default_vae(self.defaults, self.family)

    def _load_vae(self, file: Path) -> Any:
        sd, utils = importlib.import_module("comfy.sd"), importlib.import_module("comfy.utils")
        if file == self.path:
            return sd.load_checkpoint_guess_config(str(file), output_clip=False, output_model=False)[2]
        vae = sd.VAE(sd=utils.load_torch_file(str(file)))
        wanted = self.latent.streams[0][0]
        if vae.first_stage_model is None or vae.latent_channels != wanted:
            raise CheckpointError(f"--vae {file}: not a VAE for {wanted} channels of {self.family}; name another file")
        return vae


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
        patcher = _with_lora(patcher, _lora(lora))
    shift = family_of(patcher.model.model_config).shift if options.shift is None else options.shift
    if shift is not None:
        patcher = _with_shift(patcher, shift)
    return Loaded(path, patcher, options)


@dataclass(frozen=True)
class _Lora:
    """A LoRA file, told from others by its content."""

    path: Path
    strength: float

    def weights(self, of_text: bool) -> dict[str, Any]:
        """The weights for text encoders, or the others."""
        weights = importlib.import_module("comfy.utils").load_torch_file(str(self.path), safe_load=True)
        return {name: weight for name, weight in weights.items() if name.startswith(_LORA_TEXT_KEYS) == of_text}

    def __str__(self) -> str:
        return f"{file_digest(self.path)} {self.strength}"


def _lora(text: str) -> _Lora:
    name, strength = ComfyOptions.lora_strength(text)
    return _Lora(find_file(name, ("loras",), "--lora"), strength)


def _with_lora(patcher: Any, lora: _Lora) -> Any:
    sd, before = importlib.import_module("comfy.sd"), _patches(patcher)
    weights = lora.weights(of_text=False)
    patched = sd.load_lora_for_models(patcher, None, weights, lora.strength, 0.0)[0]
    if weights and _patches(patched) == before:
        family = type(patcher.model.model_config).__name__
        raise CheckpointError(f"--lora {lora.path}: nothing in it fits a model of the family {family}; leave it out")
    return patched


def _patches(patcher: Any) -> int:
    return sum(map(len, patcher.patches.values()))


def _with_shift(patcher: Any, shift: float) -> Any:
    sampling = copy.deepcopy(patcher.get_model_object("model_sampling"))
    if not hasattr(sampling, "shift"):
        raise CheckpointError(f"--shift {shift:g}: the schedule of this model has no shift; leave it out")
    # set_parameters has its own defaults for these, whatever the model had
    kept = {name: getattr(sampling, name) for name in ("multiplier", "audio_shift") if hasattr(sampling, name)}
    sampling.set_parameters(shift=shift, **kept)
    clone = patcher.clone()
    clone.add_object_patch("model_sampling", sampling)
    return clone


_TEXT_KEYS = ("cond_stage_model.", "conditioner.", "text_encoders.")
_VAE_KEYS = ("first_stage_model.", "vae.")
_LORA_TEXT_KEYS = ("lora_te", "lora_prior_te", "text_encoder")


@cache
def _keys(path: Path) -> tuple[str, ...]:
    if path.suffix in (".safetensors", ".sft"):
        with importlib.import_module("safetensors").safe_open(path, framework="pt") as file:
            return tuple(file.keys())
    return tuple(importlib.import_module("comfy.utils").load_torch_file(str(path), safe_load=True))


def _holds(path: Path, beginnings: Sequence[str]) -> bool:
    try:
        return any(key.startswith(tuple(beginnings)) for key in _keys(path))
    except Exception as error:  # the format's reader may raise anything for another file
        raise CheckpointError(f"--ckpt {path}: the file can't be read ({error}); get it again") from error


def file_digest(path: Path) -> str:
    """Digest of the size and 64 pieces spread over the file: reading all of a large model would take minutes."""
    size, found = path.stat().st_size, hashlib.sha256(str(path.stat().st_size).encode())
    with path.open("rb") as file:
        for i in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLED_BYTES) * i // (_SAMPLES - 1))
            found.update(file.read(_SAMPLED_BYTES))
    return found.hexdigest()[:24]
