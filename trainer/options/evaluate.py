"""The options of `trainer.evaluate`."""

from dataclasses import dataclass
from pathlib import Path

from dyweight.suggest import did_you_mean

from ..pairs.teacher import Teacher
from ..run.errors import TrainerError
from .comfy import ComfyOptions
from .parse import check_seed, flag

METRICS = ("fid", "clip", "lpips")
"""What pictures can be compared by."""


@dataclass(frozen=True)
class EvaluateOptions(ComfyOptions):
    """Compare a coefficient file with handcrafted solvers at the same number of network calls."""

    ckpt: str
    """the model: digits, shapes, gmm, gmm:DIMENSION, module:callable, path/file.py:callable, or a ComfyUI checkpoint by
    name or path, as flux1-dev"""
    solver: Path
    """the coefficient file"""
    out: Path
    """folder for report.json and pictures"""
    baselines: tuple[str, ...] | None = None
    """handcrafted solvers, a,b,c; by default all"""
    samples: int = 1000
    """how many samples to compare, rounded up to whole batches"""
    seed: int = 1
    """of the samples' noise; they are never those of a distillation"""
    teacher: str = "ipndm:100"
    """the fine teacher that endpoints are measured against, NAME:STEPS"""
    batch: int = 50
    """samples in one network call"""
    max_calls: int = 10
    """draw the handcrafted solvers' errors for 2 to so many network calls"""
    cache: Path | None = None
    """folder that keeps the teacher's endpoints; by default dyweight/targets in the user's cache folder"""
    metrics: tuple[str, ...] | None = None
    """also compare decoded pictures: fid,clip,lpips or some of them; pip install lpips pytorch-fid open_clip_torch"""
    references: Path | None = None
    """fid: a folder of real pictures or pytorch-fid's .npz of their statistics; by default the teacher's pictures"""
    clip_score_model: str = "ViT-g-14"
    """clip: the model, by the name that open_clip has for it"""
    clip_score_weights: str = "laion2b_s34b_b88k"
    """clip: open_clip's name of the weights, which it downloads on first use, or a file"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("samples", "batch", "max_calls"):
            if not getattr(self, name) > 0:
                raise TrainerError(f"{flag(name)} is {getattr(self, name)}: give a number above 0")
        check_seed(self.seed)
        Teacher.parse(self.teacher)
        for name in self.metrics or ():
            if name not in METRICS:
                raise TrainerError(f"--metrics {name}: {did_you_mean(name, METRICS)}Give some of {','.join(METRICS)}")
        if self.references is not None and "fid" not in (self.metrics or ()):
            raise TrainerError(f"--references {self.references} is what fid compares with: give --metrics fid too")
