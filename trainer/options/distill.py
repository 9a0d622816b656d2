"""The options of `trainer.distill`."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import dyweight
from dyweight.solvers.settings import MAXIMUM_STEPS
from dyweight.suggest import did_you_mean

from ..fit.budget import JUDGING_PAIRS, teacher_steps
from ..losses.endpoint import LossName
from ..pairs.teacher import Teacher
from ..run.errors import TrainerError
from .comfy import ComfyOptions
from .parse import check_seed, flag


@dataclass(frozen=True)
class DistillOptions(ComfyOptions):
    """Distil a few-step solver for a frozen model into a coefficient file."""

    ckpt: str
    """the model: digits, shapes, gmm, gmm:DIMENSION, module:callable, path/file.py:callable, or a ComfyUI checkpoint by
    name or path, as flux1-dev"""
    steps: int
    """steps of the solver, each one network call"""
    out: Path
    """the coefficient file to write, FILE.safetensors"""
    order: int | None = None
    """most slopes a step uses; by default 3, or as many as there are steps"""
    family: Literal["dyweight", "indis", "learned-schedule", "free-table"] = "dyweight"
    """the kind of solver: learned weights; indis, a network that gives each sample its own schedule; a learned schedule
    for all samples; or a table in which every number is free"""
    instance_aware: bool = False
    """dyweight: a network corrects weights and time scales of --start for each sample"""
    start: Path | None = None
    """the distilled DyWeight that --instance-aware corrects"""
    base: str = "ipndm"
    """indis and learned-schedule: the handcrafted solver whose schedule is learned; free-table: the one it begins as"""
    instance: bool = True
    """let the network of indis and of --instance-aware read the noise"""
    condition: bool = True
    """let that network read the condition"""
    shift_factors: bool = True
    """let that network also shift and scale what the model is asked; without, it gives timesteps or weights only"""
    method: Literal["gauss-newton", "adam"] | None = None
    """how to fit: gauss-newton, the default, is forward only; adam is the papers', and the one for networks"""
    effort: Literal["draft", "normal", "thorough"] = "normal"
    """gauss-newton: how many network calls the fit may take, teacher and judging included; a draft at 5 steps has 1500,
    normal four times as many, thorough twelve times"""
    calls: int | None = None
    """gauss-newton: a budget of network calls of one's own"""
    pairs: int | None = None
    """training pairs of noise and teacher endpoint; by default 10000 for adam; for gauss-newton what the budget holds,
    and with a number so many to begin with"""
    validation_pairs: int | None = None
    """held-out pairs that judge the result; by default 4, 8 or 16 by the effort of gauss-newton, 64 for adam"""
    teacher: str | None = None
    """the handcrafted solver to imitate, NAME:STEPS; by default ipndm:35 for adam, and ipndm with four steps for each
    of the solver's, 24 at least, for gauss-newton"""
    seed: int = 0
    """of all that is drawn"""
    batch: int | None = None
    """pairs in one network call, to whole multiples of which pairs are rounded up; by default 4 for gauss-newton, 16
    for adam"""
    loss: LossName = "l2"
    """distance between endpoints; lpips and inception compare decoded images (pip install lpips pytorch-fid), features
    what the checkpoint's own features(x) tells, as that of shapes"""
    huber_delta: float = 1.0
    """where huber turns linear, in standard deviations of the targets"""
    slope: Literal["state", "query"] = "state"
    """what x - denoised is divided by: the sigma of the state or the sigma of the call"""
    analytic_first_step: bool = False
    """the first slope without a network call; for models of unit-variance data that start at a high sigma"""
    initial: Literal["auto", "adams-bashforth", "adams-bashforth-variable", "euler", "uniform"] = "auto"
    """initial weights; auto is adams-bashforth for adam, and for gauss-newton adams-bashforth of order
    2, asked at 0.9 of each noise level"""
    time_shifting: bool = True
    """the sum of a row of weights moves the time of the next state"""
    time_scaling: bool = True
    """learn at which sigma the network is asked"""
    iterations: int | None = None
    """steps of the fit; by default one pass over the pairs for adam; for gauss-newton as many trials as the
    budget holds"""
    learning_rate: float | None = None
    """adam: by default 0.09 / steps, between 1e-3 and 5e-2"""
    recompute: bool = True
    """adam: keep no activations but run a call again on the way back; slower, memory of one call"""
    difference_step: float | None = None
    """gauss-newton: by what part of the noise the network is moved to learn its derivatives; by default found from what
    it answers"""
    cache: Path | None = None
    """folder that keeps the teacher's endpoints; by default dyweight/targets in the user's cache folder"""
    keep_targets: bool = True
    """keep the teacher's endpoints in the cache; without, they are made on the fly"""
    report: Path | None = None
    """folder for report.json and pictures"""
    report_pairs: int = 64
    """unseen pairs that the report is measured on"""
    resume: bool = False
    """go on from where a killed run with the same options was"""

    @property
    def batch_size(self) -> int:
        """`batch`, or the default of the method."""
        return self.batch or (16 if self.method == "adam" else 4)

    @property
    def teacher_name(self) -> str:
        """`teacher`, or the default of the method."""
        return self.teacher or (
            "ipndm:35" if self.method == "adam" else f"ipndm:{teacher_steps(self.effort, self.steps)}"
        )

    @property
    def judging_pairs(self) -> int:
        """`validation_pairs`, or the default of the method."""
        return self.validation_pairs or (64 if self.method == "adam" else JUDGING_PAIRS[self.effort])

    @property
    def has_phi(self) -> bool:
        """Whether the solver holds a network that reads each sample."""
        return self.family == "indis" or self.instance_aware

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "method", self.method or ("adam" if self.has_phi else "gauss-newton"))
        self._check_family()
        positive = ("steps", "batch", "validation_pairs", "pairs", "iterations", "order", "report_pairs", "calls")
        for name in (*positive, "learning_rate", "difference_step", "huber_delta"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise TrainerError(f"{flag(name)} is {value}: give a number above 0")
        check_seed(self.seed)
        if self.steps > MAXIMUM_STEPS:
            raise TrainerError(f"--steps is {self.steps}: a coefficient file has {MAXIMUM_STEPS} at most")
        if self.order is not None and self.order > self.steps:
            raise TrainerError(
                f"--order is {self.order}, but {self.steps} steps have {self.steps} slopes: give 1 to {self.steps}"
            )
        if self.analytic_first_step and self.steps < 2:
            raise TrainerError("--analytic-first-step with --steps 1 leaves no network call: give 2 steps or more")
        if self.out.suffix != ".safetensors":
            raise TrainerError(f"--out is {self.out}: the name of a coefficient file ends with .safetensors")
        if self.out.is_dir():
            raise TrainerError(f"--out is {self.out}, a folder: give a file name")
        Teacher.parse(self.teacher_name)

    def _check_family(self) -> None:
        if self.family == "indis" and self.instance_aware:
            raise TrainerError("--instance-aware is for --family dyweight: indis reads each sample as it is")
        if self.family in ("learned-schedule", "free-table"):
            self._check_belongs_to_dyweight()
        if self.has_phi and self.method == "gauss-newton":
            raise TrainerError("--method gauss-newton fits a few dozen numbers; a network needs --method adam")
        if self.start is not None and not self.instance_aware:
            raise TrainerError(f"--start {self.start} is what --instance-aware corrects: give that too")
        if self.base not in dyweight.baselines.NAMES:
            names = dyweight.baselines.NAMES
            raise TrainerError(f"--base {self.base}: {did_you_mean(self.base, names)}The names are {', '.join(names)}")

    def _check_belongs_to_dyweight(self) -> None:
        given = {
            "--instance-aware": self.instance_aware,
            "--analytic-first-step": self.analytic_first_step,
            "--no-time-shifting": not self.time_shifting,
            "--slope query": self.slope != "state",
            f"--initial {self.initial}": self.initial != "auto",
            "--no-time-scaling": self.family == "free-table" and not self.time_scaling,
        }
        for option, is_given in given.items():
            if is_given:
                raise TrainerError(f"{option} is for --family dyweight: {self.family} has no such choice; leave it out")
