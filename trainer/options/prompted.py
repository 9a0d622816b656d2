"""The options that checkpoints with prompts share."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ..run.errors import TrainerError
from .parse import POSITIVE, Checked


@dataclass(frozen=True, kw_only=True)
class PromptedOptions(Checked):
    """ComfyUI checkpoint or folder of diffusers: what it is asked for"""

    prompts: Path | None = None
    """prompt file: .txt (one per line), .jsonl or .csv (with a field prompt, text or caption); by default the prompts
    that come with the trainer"""
    negative: str = ""
    """negative prompt, used where cfg is not 1"""
    cfg: float | None = None
    """classifier-free guidance scale; by default that of the family"""
    guidance: float | None = None
    """guidance value that the network takes as an input, as in FLUX.1-dev; by default that of the family"""
    width: Annotated[tuple[int, ...] | int | None, POSITIVE] = None
    """width of the picture in pixels, or, for ComfyUI, several to fit to at once; by default that of the family"""
    height: Annotated[int | None, POSITIVE] = None
    """height of the picture in pixels; by default the width, or that of the family"""
    frames: Annotated[int | None, POSITIVE] = None
    """number of frames, for video models; by default that of the family"""
    dtype: Literal["default", "fp8_e4m3fn", "fp8_e5m2", "fp16", "bf16", "fp32"] = "default"
    """number format of the weights"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("cfg", "guidance"):
            check_at_least_0(name, getattr(self, name))

    @property
    def widths(self) -> tuple[int, ...]:
        """Those that are given."""
        return self.width if isinstance(self.width, tuple) else () if self.width is None else (self.width,)


def check_at_least_0(name: str, value: float | None) -> None:
    """TrainerError for an option that is below 0 or not finite."""
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise TrainerError(f"--{name} is {value}: give 0 or more")
