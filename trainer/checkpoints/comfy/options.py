"""The options of a ComfyUI checkpoint."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ...options.parse import POSITIVE, Checked
from ...run.errors import TrainerError


@dataclass(frozen=True, kw_only=True)
class ComfyOptions(Checked):
    """ComfyUI checkpoint: how it is loaded and sampled"""

    ckpt_low: str | None = None
    """the second network of a model of two experts, for the low noise levels, as in Wan 2.2; --ckpt is the first"""
    boundary: Annotated[float | None, POSITIVE] = None
    """noise level below which --ckpt-low runs: 0.875 for Wan 2.2 from text, 0.9 from a picture"""
    lora_low: tuple[str, ...] = ()
    """as --lora, for --ckpt-low"""
    comfyui: Path | None = None
    """ComfyUI's folder; by default COMFYUI_PATH, the one the pack is installed in, or ~/comfy/ComfyUI"""
    clip: tuple[str, ...] | None = None
    """text encoder files, a,b; by default those of the model's family"""
    clip_type: str | None = None
    """ComfyUI's type of the text encoders, as in its CLIP loaders; by default that of the family"""
    vae: str | None = None
    """VAE file, for pictures and losses on them; by default that of the family"""
    prompts: Path | None = None
    """prompt file: .txt (one per line), .jsonl or .csv (with a field prompt, text or caption); by default the prompts
    that come with the trainer"""
    conditioning: Path | None = None
    """.safetensors file of conditions instead of prompts: cross_attn [n, tokens, width] and, if the model uses one,
    pooled [n, width]; for guidance also negative_cross_attn and negative_pooled, with one row each"""
    negative: str = ""
    """negative prompt, used where cfg is not 1"""
    cfg: float | None = None
    """classifier-free guidance scale; by default that of the family"""
    guidance: float | None = None
    """guidance value that the network takes as an input, as in FLUX.1-dev; by default that of the family"""
    shift: float | None = None
    """shift of the model's schedule; by default that of the family"""
    scheduler: str | None = None
    """ComfyUI scheduler for the base schedule, or flux2, ltxv or ideogram4 for its nodes Flux2Scheduler, LTXVScheduler
    and Ideogram4Scheduler; by default that of the family"""
    width: Annotated[tuple[int, ...] | int | None, POSITIVE] = None
    """width of the picture in pixels, or several to fit to at once; by default that of the family"""
    height: Annotated[int | None, POSITIVE] = None
    """height of the picture in pixels; by default the width, or that of the family"""
    frames: Annotated[int | None, POSITIVE] = None
    """number of frames, for video models; by default that of the family"""
    lora: tuple[str, ...] = ()
    """LoRA files, FILE:STRENGTH, several separated by commas"""
    dtype: Literal["default", "fp8_e4m3fn", "fp8_e5m2", "fp16", "bf16", "fp32"] = "default"
    """number format of the weights"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("cfg", "guidance", "shift"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise TrainerError(f"--{name} is {value}: give 0 or more")
        if (self.ckpt_low is None) != (self.boundary is None):
            missing = "--boundary" if self.boundary is None else "--ckpt-low"
            raise TrainerError(f"{missing}: give it too; --ckpt-low and --boundary go together")
        if self.lora_low and self.ckpt_low is None:
            raise TrainerError(f"--lora-low {','.join(self.lora_low)} is for --ckpt-low: leave it out")
        for lora in (*self.lora, *self.lora_low):
            self.lora_strength(lora)
        if self.prompts is not None and self.conditioning is not None:
            raise TrainerError("--prompts and --conditioning: give only one of them")

    @property
    def widths(self) -> tuple[int, ...]:
        """Those that are given."""
        return self.width if isinstance(self.width, tuple) else () if self.width is None else (self.width,)

    @staticmethod
    def lora_strength(text: str) -> tuple[str, float]:
        """`FILE:STRENGTH` -> (FILE, strength); TrainerError for anything else."""
        file, _, strength = text.rpartition(":")
        try:
            return file or strength, float(strength) if file else 1.0
        except ValueError as error:
            raise TrainerError(f"--lora {text}: give FILE:STRENGTH, such as detail.safetensors:0.8") from error
