"""The options of `trainer.evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..pairs.teacher import Teacher
from .checkpoint import CheckpointOptions
from .parse import POSITIVE, OneOf, ReadBy, check_seed

METRICS = ("fid", "clip", "lpips")
"""What pictures can be compared by."""


@dataclass(frozen=True)
class EvaluateOptions(CheckpointOptions):
    """Compare a coefficient file with handcrafted solvers at the same number of network calls."""

    ckpt: str
    """the model: a built-in one such as digits or gmm:16, module:callable, path/file.py:callable, a ComfyUI
    checkpoint by name or path, such as flux1-dev, or diffusers:FOLDER"""
    solver: Path
    """the coefficient file"""
    out: Path
    """the folder for report.json and pictures"""
    steps: Annotated[int | None, POSITIVE] = None
    """number of steps of the solver, of a file with several; by default its only one, or the middle one"""
    baselines: tuple[str, ...] | None = None
    """handcrafted solvers, a,b:ORDER,c; by default all, at every order; for a ComfyUI checkpoint
    SAMPLER/SCHEDULER of ComfyUI"""
    samples: Annotated[int, POSITIVE] = 1000
    """number of samples to compare, rounded up to whole batches"""
    seed: int = 1
    """seed of the samples' noise; a distillation never uses the same samples"""
    teacher: str = "ipndm:100"
    """the fine teacher that endpoints are measured against, NAME:STEPS"""
    batch: Annotated[int, POSITIVE] = 50
    """samples in one network call"""
    max_calls: Annotated[int, POSITIVE] = 10
    """largest number of network calls for which the handcrafted solvers' errors are drawn"""
    cache: Path | None = None
    """folder that keeps the teacher's endpoints; by default dyweight/targets in the user's cache folder"""
    metrics: Annotated[tuple[str, ...] | None, OneOf(METRICS)] = None
    """compare decoded pictures too: fid,clip,lpips or some of them (pip install lpips pytorch-fid open_clip_torch)"""
    references: Annotated[Path | None, ReadBy("--metrics fid")] = None
    """fid: a folder of real pictures, or their statistics as pytorch-fid's .npz; by default the teacher's pictures"""
    clip_score_model: Annotated[str, ReadBy("--metrics clip")] = "ViT-g-14"
    """clip: open_clip's name of the model"""
    clip_score_weights: Annotated[str, ReadBy("--metrics clip")] = "laion2b_s34b_b88k"
    """clip: open_clip's name of the weights, which it downloads on first use, or a file"""

    def choices(self) -> list[str]:
        """As `parse.Checked` has it."""
        return [f"--metrics {name}" for name in self.metrics or ()]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seed(self.seed)
        Teacher.parse(self.teacher)
