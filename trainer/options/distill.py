"""The options of `trainer.distill`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import dyweight
from dyweight.solvers.settings import MAXIMUM_STEPS

from ..fit.budget import JUDGING_PAIRS, Effort
from ..losses.endpoint import LOSSES
from ..pairs.teacher import Teacher
from ..run.errors import TrainerError
from .checkpoint import CheckpointOptions
from .parse import POSITIVE, OneOf, ReadBy, check, check_seed

DYWEIGHT, INSTANCE_AWARE, INDIS = "--family dyweight", "--instance-aware", "--family indis"
LEARNED_SCHEDULE, FREE_TABLE = "--family learned-schedule", "--family free-table"
LEARN_GUIDANCE = "--learn-guidance"


@dataclass(frozen=True, kw_only=True)
class SolverOptions:
    """the solver"""

    family: Literal["dyweight", "indis", "learned-schedule", "free-table"] = "dyweight"
    """kind of solver: learned weights; indis, a network that gives each sample its own schedule; a learned schedule
    for all samples; or a table in which every number is free"""
    order: Annotated[int | None, POSITIVE, ReadBy(DYWEIGHT, INDIS, LEARNED_SCHEDULE, FREE_TABLE)] = None
    """largest number of slopes that a step uses; by default 3 for learned weights, otherwise the highest of --base"""
    base: Annotated[str, OneOf(dyweight.baselines.NAMES), ReadBy(INDIS, LEARNED_SCHEDULE, FREE_TABLE)] = "ipndm"
    """indis and learned-schedule: the handcrafted solver whose schedule is learned; free-table: the one it begins as"""
    slope: Annotated[Literal["state", "query"], ReadBy(DYWEIGHT)] = "state"
    """what x - denoised is divided by: the sigma of the state or the sigma of the call"""
    analytic_first_step: Annotated[bool, ReadBy(DYWEIGHT)] = False
    """make the first slope without a network call; for models of unit-variance data that start at a high sigma"""
    initial: Annotated[
        Literal["auto", "adams-bashforth", "adams-bashforth-variable", "euler", "uniform"], ReadBy(DYWEIGHT)
    ] = "auto"
    """the initial weights; auto is adams-bashforth for adam, and for gauss-newton adams-bashforth of order 2, with the
    network asked 0.35 of the way into each step of a flow, and at 0.9 of each noise level for other models"""
    time_shifting: Annotated[bool, ReadBy(DYWEIGHT)] = True
    """let the sum of a row of weights move the time of the next state"""
    time_scaling: Annotated[bool, ReadBy(DYWEIGHT, LEARNED_SCHEDULE)] = True
    """learn the sigma at which the network is asked"""
    instance_aware: bool = False
    """dyweight: let a network correct the weights and time scales of --start for each sample"""
    start: Annotated[Path | None, ReadBy(INSTANCE_AWARE)] = None
    """the distilled DyWeight that --instance-aware corrects"""
    instance: Annotated[bool, ReadBy(INDIS, INSTANCE_AWARE)] = True
    """let the network of indis and of --instance-aware read the noise"""
    condition: Annotated[bool, ReadBy(INDIS, INSTANCE_AWARE)] = True
    """let that network read the condition"""
    shift_factors: Annotated[bool, ReadBy(INDIS, INSTANCE_AWARE)] = True
    """let that network also shift and scale the network calls; otherwise it gives timesteps or weights only"""

    @property
    def has_phi(self) -> bool:
        """Whether the solver holds a network that reads each sample."""
        return self.family == "indis" or self.instance_aware

    def check_solver(self, steps: int) -> None:
        """TrainerError where no solver of this many steps has these options."""
        if self.instance_aware and self.family != "dyweight":
            raise TrainerError(f"--instance-aware is for --family dyweight: {self.family} has no such choice")
        if self.instance_aware and self.start is None:
            raise TrainerError(
                "--instance-aware corrects a distilled DyWeight: make one with the same options but this one, then "
                "name its file with --start"
            )
        if steps > MAXIMUM_STEPS:
            raise TrainerError(f"--steps is {steps}: a coefficient file has {MAXIMUM_STEPS} at most")
        if self.order is not None and self.order > steps:
            raise TrainerError(f"--order is {self.order}, but {steps} steps have {steps} slopes: give 1 to {steps}")
        if self.analytic_first_step and steps < 2:
            raise TrainerError("--analytic-first-step with --steps 1 leaves no network call: give 2 steps or more")


@dataclass(frozen=True, kw_only=True)
class GuidanceOptions:
    """learned guidance"""

    learn_guidance: Annotated[bool, ReadBy(DYWEIGHT)] = False
    """learn weights for classifier-free guidance too, against the teacher at constant scale; network calls are then
    evaluations, two for a step with the unconditional prediction"""
    unconditional_calls: Annotated[int | None, POSITIVE, ReadBy(LEARN_GUIDANCE)] = None
    """how many steps ask for the unconditional prediction too; the fit chooses which; by default all"""
    evaluations: Annotated[int | None, POSITIVE, ReadBy(LEARN_GUIDANCE)] = None
    """number of evaluations for a sample: the fit chooses the number of steps, up to --steps, and of unconditional
    calls"""

    @property
    def per_call(self) -> int:
        """What a call at constant guidance counts: evaluations where guidance is learned."""
        return 2 if self.learn_guidance else 1

    def check_guidance(self, steps: int, asking: int, fitted_by: str) -> None:
        """TrainerError where these options rule each other out. asking: how many of the steps ask the network."""
        if self.evaluations is not None and self.unconditional_calls is not None:
            raise TrainerError("--evaluations chooses the unconditional calls: leave out --unconditional-calls")
        if self.evaluations is not None and not 2 <= self.evaluations <= 2 * asking:
            raise TrainerError(
                f"--evaluations is {self.evaluations}: {steps} steps make 2 to {2 * asking}; give one of these, or "
                f"another --steps"
            )
        if (self.unconditional_calls or self.evaluations) and fitted_by == "adam":
            raise TrainerError(
                "--method adam asks for the unconditional prediction in every step: leave out --unconditional-calls "
                "and --evaluations, or take --method gauss-newton"
            )
        if self.unconditional_calls is not None and self.unconditional_calls > asking:
            raise TrainerError(
                f"--unconditional-calls is {self.unconditional_calls}: give at most one for each of the {asking} steps "
                "that ask the network"
            )


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """the fit"""

    method: Literal["gauss-newton", "adam"] | None = None
    """fitting method: gauss-newton, the default, is forward only; adam is the papers', and the only one for networks"""
    effort: Annotated[Effort, ReadBy("--method gauss-newton")] = "normal"
    """number of network calls that the fit may make, teacher and judging included: a draft at 5 steps makes 1,500,
    normal 4 times as many, thorough 12 times"""
    calls: Annotated[int | None, POSITIVE, ReadBy("--method gauss-newton")] = None
    """largest number of network calls, in the place of that of --effort"""
    loss: Annotated[str, OneOf(LOSSES)] = "l2"
    """distance between endpoints; lpips and inception compare decoded images (pip install lpips pytorch-fid), features
    compares what the checkpoint's own features(x) returns, which shapes has"""
    huber_delta: Annotated[float, POSITIVE, ReadBy("--loss huber")] = 1.0
    """distance at which huber turns linear, in standard deviations of the targets"""
    iterations: Annotated[int | None, POSITIVE] = None
    """number of steps of the fit; by default one pass over the pairs for adam, as many trials as its calls allow for
    gauss-newton"""
    learning_rate: Annotated[float | None, POSITIVE, ReadBy("--method adam")] = None
    """the learning rate of adam; by default 0.09 / steps, between 1e-3 and 5e-2"""
    recompute: Annotated[bool, ReadBy("--method adam")] = True
    """adam: recompute calls in the backward pass instead of keeping activations; slower, with the memory of one call"""
    difference_step: Annotated[float | None, POSITIVE, ReadBy("--method gauss-newton")] = None
    """how far gauss-newton moves the network's inputs to learn its derivatives, in noise levels; by default found from
    the network's answers"""


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """pairs of noise and teacher endpoint"""

    teacher: str | None = None
    """the handcrafted solver to imitate, NAME:STEPS; by default ipndm:35 for adam; for gauss-newton ipndm with 4 times
    the steps, at least 24, and twice as many where that is not close enough"""
    pairs: Annotated[int | None, POSITIVE] = None
    """number of training pairs; by default 10000 for adam; gauss-newton begins with as many as its calls allow, or with
    this number"""
    validation_pairs: Annotated[int | None, POSITIVE] = None
    """number of held-out pairs that choose the iterate of adam, 64 by default; of gauss-newton those that measure its
    result beside the best handcrafted solver's, for the file: by default 4, 8 or 16 by the effort"""
    report_pairs: Annotated[int, POSITIVE] = 64
    """number of unseen pairs, used for no choice, on which the error in the report and in adam's file is measured"""
    batch: Annotated[int | None, POSITIVE] = None
    """number of pairs in one network call, to multiples of which pairs are rounded up; by default 4 for gauss-newton,
    16 for adam"""
    cache: Path | None = None
    """folder that keeps the teacher's endpoints; by default dyweight/targets in the user's cache folder"""
    keep_targets: bool = True
    """keep the teacher's endpoints in the cache; otherwise they are made on the fly"""


@dataclass(frozen=True)
class DistillOptions(SolverOptions, GuidanceOptions, FitOptions, PairOptions, CheckpointOptions):
    """Distil a few-step solver for a frozen model into a coefficient file. With --workflow FILE_api.json the model is
    that of a ComfyUI workflow; `--workflow FILE_api.json --help` lists the options for it."""

    ckpt: str
    """the model: a built-in one such as digits or gmm:16, module:callable, path/file.py:callable, a ComfyUI
    checkpoint by name or path, such as flux1-dev, or diffusers:FOLDER"""
    out: Path
    """the coefficient file to write, FILE.safetensors"""
    steps: Annotated[tuple[int, ...], POSITIVE] = ()
    """number of steps, or several with commas between them, 3,5,8, for one file with a solver for each. A step is one
    network call, except for solvers with two a step and an analytic first step"""
    add: Annotated[tuple[int, ...], POSITIVE] = ()
    """in the place of --steps: numbers of steps to add to the file --out, which is of the same model"""
    report: Path | None = None
    """the folder for report.json and pictures"""
    resume: bool = False
    """continue an interrupted run with the same options"""
    seed: int = 0
    """seed of everything that is drawn"""

    @property
    def members(self) -> tuple[int, ...]:
        """The numbers of steps to fit, smallest first."""
        return tuple(sorted({*self.steps, *self.add}))

    @property
    def fitted_by(self) -> str:
        """`method`, or the default of the solver."""
        return self.method or ("adam" if self.has_phi else "gauss-newton")

    @property
    def batch_size(self) -> int:
        """`batch`, or the default of the method."""
        return self.batch or (16 if self.fitted_by == "adam" else 4)

    @property
    def judging_pairs(self) -> int:
        """`validation_pairs`, or the default of the method."""
        return self.validation_pairs or (64 if self.fitted_by == "adam" else JUDGING_PAIRS[self.effort])

    def choices(self) -> list[str]:
        """As `parse.Checked` has it."""
        kind = INSTANCE_AWARE if self.instance_aware else f"--family {self.family}"
        guidance = [LEARN_GUIDANCE] if self.learn_guidance else []
        return [kind, f"--method {self.fitted_by}", f"--loss {self.loss}", *guidance]

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.steps) == bool(self.add):
            raise TrainerError(
                "give --steps N[,N...] for a new file, or --add N[,N...] for one that is there, not both"
            )
        for steps in self.members:
            self.check_solver(steps)
            self.check_guidance(steps, steps - int(self.analytic_first_step), self.fitted_by)
        if len(self.members) > 1 and self.learn_guidance:
            raise TrainerError(
                f"--steps {','.join(map(str, self.members))} is not for --learn-guidance: fit each number of steps "
                "alone, and join the files with python -m trainer.convert"
            )
        if len(self.members) > 1 and self.fitted_by == "adam":
            raise TrainerError(
                f"--steps {','.join(map(str, self.members))} is for --method gauss-newton: fit each number of steps "
                "alone, and join the files of solvers with one table for all samples with python -m trainer.convert"
            )
        if self.add and not self.out.is_file():
            raise TrainerError(f"--add is for a file that is there, and --out {self.out} is none: give --steps instead")
        if self.has_phi and self.fitted_by == "gauss-newton":
            raise TrainerError("--method gauss-newton fits a few dozen numbers; a network needs --method adam")
        if self.out.suffix != ".safetensors":
            raise TrainerError(f"--out is {self.out}: the name of a coefficient file ends with .safetensors")
        if self.out.is_dir():
            raise TrainerError(f"--out is {self.out}, a folder: give a file name")
        check_seed(self.seed)
        if self.teacher is not None:
            Teacher.parse(self.teacher)
        check(self)
