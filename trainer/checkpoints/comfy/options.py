"""The options of a ComfyUI checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ...options.parse import POSITIVE
from ...options.prompted import PromptedOptions, check_at_least_0
from ...run.errors import TrainerError


@dataclass(frozen=True, kw_only=True)
class ComfyOptions(PromptedOptions):
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
    conditioning: Path | None = None
    """.safetensors file of conditions instead of prompts: cross_attn [n, tokens, width] and, if the model uses one,
    pooled [n, width]; for guidance also negative_cross_attn and negative_pooled, with one row each"""
    shift: float | None = None
    """shift of the model's schedule; by default that of the family"""
    scheduler: str | None = None
    """ComfyUI scheduler for the base schedule, or flux2, ltxv or ideogram4 for its nodes Flux2Scheduler, LTXVScheduler
    and Ideogram4Scheduler; by default that of the family"""
    lora: tuple[str, ...] = ()
    """LoRA files, FILE:STRENGTH, several separated by commas"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0("shift", self.shift)
        if (self.ckpt_low is None) != (self.boundary is None):
            missing = "--boundary" if self.boundary is None else "--ckpt-low"
            raise TrainerError(f"{missing}: give it too; --ckpt-low and --boundary go together")
        if self.lora_low and self.ckpt_low is None:
            raise TrainerError(f"--lora-low {','.join(self.lora_low)} is for --ckpt-low: leave it out")
        for lora in (*self.lora, *self.lora_low):
            self.lora_strength(lora)
        if self.prompts is not None and self.conditioning is not None:
            raise TrainerError("--prompts and --conditioning: give only one of them")

    @staticmethod
    def lora_strength(text: str) -> tuple[str, float]:
        """`FILE:STRENGTH` -> (FILE, strength); TrainerError for anything else."""
        file, _, strength = text.rpartition(":")
        try:
            return file or strength, float(strength) if file else 1.0
        except ValueError as error:
            raise TrainerError(f"--lora {text}: give FILE:STRENGTH, such as detail.safetensors:0.8") from error
