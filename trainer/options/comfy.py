"""The options of a ComfyUI checkpoint; the command lines of the trainer inherit them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..run.errors import TrainerError


@dataclass(frozen=True, kw_only=True)
class ComfyOptions:
    """How ComfyUI loads and samples the checkpoint; for other checkpoints without effect."""

    comfyui: Path | None = None
    """ComfyUI's folder; by default COMFYUI_PATH, the one the pack is installed in, or ~/comfy/ComfyUI"""
    clip: tuple[str, ...] | None = None
    """text encoder files, a,b; by default those of the model's family"""
    clip_type: str | None = None
    """ComfyUI's type of the text encoders, as in its CLIP loaders; by default that of the family"""
    vae: str | None = None
    """VAE file, for pictures and losses on them; by default that of the family"""
    prompts: Path | None = None
    """.txt (a prompt a line), .jsonl or .csv (with a field prompt, text or caption); by default those that come with
    the trainer"""
    conditioning: Path | None = None
    """.safetensors with conditions instead of prompts: cross_attn [n, tokens, width] and, if the model has one, pooled
    [n, width]; for guidance both once more with one row and the prefix negative_"""
    negative: str = ""
    """negative prompt, used where cfg is not 1"""
    cfg: float | None = None
    """classifier-free guidance scale; by default that of the family"""
    guidance: float | None = None
    """guidance that the network itself is told, as FLUX.1-dev is; by default 3.5 for it"""
    shift: float | None = None
    """shift of the model's schedule; by default the model's own"""
    scheduler: str = "simple"
    """ComfyUI's scheduler that makes the base schedule"""
    width: int | None = None
    """of the picture; by default that of the family"""
    height: int | None = None
    """of the picture; by default the width"""
    frames: int = 1
    """of a video"""
    lora: tuple[str, ...] = ()
    """FILE:STRENGTH, several separated by commas"""
    dtype: Literal["default", "fp8_e4m3fn", "fp8_e5m2", "fp16", "bf16", "fp32"] = "default"
    """what the weights are kept in"""

    def __post_init__(self) -> None:
        for name in ("width", "height", "frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise TrainerError(f"--{name} is {value}: give a number above 0")
        for name in ("cfg", "guidance", "shift"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise TrainerError(f"--{name} is {value}: give 0 or a number above it")
        for lora in self.lora:
            self.lora_strength(lora)
        if self.prompts is not None and self.conditioning is not None:
            raise TrainerError("--prompts and --conditioning: give one of them")

    @staticmethod
    def lora_strength(text: str) -> tuple[str, float]:
        """`FILE:STRENGTH` -> (FILE, strength); TrainerError for anything else."""
        file, _, strength = text.rpartition(":")
        try:
            return file or strength, float(strength) if file else 1.0
        except ValueError as error:
            raise TrainerError(f"--lora {text}: give FILE:STRENGTH, as detail.safetensors:0.8") from error
