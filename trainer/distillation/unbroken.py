"""Fits that may be broken off at any call: the next run of the same goes on, and ends with the same file."""

import contextlib
import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

import dyweight
from dyweight import Provenance, Solver, SolverFile
from dyweight.files import write_whole

from ..checkpoints.load import checked
from ..checkpoints.protocol import Checkpoint, Rival
from ..compare.convergence import STEPS, refuse_distilled
from ..compare.endpoint_error import Sampler, endpoint
from ..fit.judge import is_worse
from ..options.distill import DistillOptions
from ..pairs.identity import identity
from ..pairs.targets import Draw, fingerprint
from ..run.cluster import ALONE
from ..run.network import Network
from ..run.resume import ResumeFile, comparable
from ..run.timing import seconds_per_call
from .fitted_file import provenance, today, together
from .fitting import Fitting
from .fitting_set import FittingSet
from .progress import FitProgress, reports

FITTED, TEACHER, UNTRAINED = "dyweight", "teacher", "untrained"
KEPT_EVERY = 2.0
"""Seconds between two states on the disk, at least: a process that is killed makes so many seconds' calls again."""
KEPT_DAYS = 30
"""For which a fit that was broken off can go on."""
Errors = dict[str, float]
"""Endpoint errors on pairs that the fit never saw, best first: of the fitted solver, `dyweight`, and of others at the
same number of network calls."""


@dataclass(frozen=True)
class Result:
    """What came out."""

    file: SolverFile
    errors: dict[int, Errors]
    """By number of steps."""
    better: list[int]
    """The numbers of steps at which the fitted solver is the best, but for what may be the chance of a few pairs."""


class UnbrokenFit:
    """The fits of one run, what is kept of them until they are done, and their result."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: DistillOptions,
        cache: Path,
        rivals: Sequence[str],
        on_calls: Callable[[int], object],
    ) -> None:
        """cache: folder for what is kept until then. rivals: samplers to compare with, by the names that the checkpoint
        has for them. on_calls: called at each network call with the number of samples; what it raises ends the fit.

        Raises TrainerError where the options don't fit the checkpoint.
        """
        self.options = options
        self.network = Network(checked(checkpoint, options.ckpt))
        self.network.on_calls = on_calls
        of_model = fingerprint(Network(self.network.checkpoint))  # whose calls are not the fit's
        told = [comparable(asdict(options)), of_model, dyweight.__version__]
        key = hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:24]
        self.folder = cache / "unfinished" / key
        """For what is kept until it is done."""
        _forget_old(self.folder.parent)
        self._state = ResumeFile(self.folder / "fit", {"key": key})
        self.fits = FittingSet(options, self.network, ALONE, self.folder)
        self._kept = self._state.load()
        self._names, self._date = tuple(rivals), today()
        self._done = 0 if self._kept is None else int(self._kept[1]["calls"])
        self._rivals: dict[int, dict[str, Rival]] = {}
        self._errors: dict[int, Errors] = {}

    def expected_calls(self, pictures: int) -> int:
        """Network calls of it all, at most, before it runs, `latents` of this many pairs included."""
        looking = sum(STEPS) if self._kept is None else 0
        return looking + max(0, self.fits.expected_calls() - self._done) + self.calls_after(pictures)

    def calls_after(self, pictures: int) -> int:
        """Those that come when all is fitted, at most."""
        compared = len(self._names) * (self.options.judging_pairs + 2)
        calls = [fitting.solver.network_calls for fitting in self.fits.fittings]
        return compared * sum(calls) + 2 * pictures * calls[-1]

    def seconds(self, pictures: int) -> float:
        """The same in seconds, after one timed call."""
        return self.expected_calls(pictures) * seconds_per_call(self.network, self.options.batch_size)

    def run(self, tell: Callable[[FitProgress], object]) -> Result:
        """Fit, from the beginning or from where it was broken off. tell: called at each trial."""
        if self._kept is None:
            refuse_distilled(self.network, Draw(0, *self.network.checkpoint.draw(torch.Generator().manual_seed(0), 1)))
        self.fits.begin()
        if self._kept is not None:
            tensors, values = self._kept
            self._kept = None
            self.fits.restore(tensors, values["fits"])
            self.fits.current.handcrafted, self._date = tuple(values["handcrafted"]), values["date"]
        for fitting in self.fits.unfinished():
            self._fit(fitting, tell)
            fitting.judge()
        better = [fitting.steps for fitting in self.fits.fittings if self._compare(fitting)]
        return Result(self._file(self.fits.fittings), self._errors, better)

    def _fit(self, fitting: Fitting, tell: Callable[[FitProgress], object]) -> None:
        fitting.best_handcrafted()
        kept, due = -math.inf, None
        try:
            for report in reports(self.fits, fitting, self._done):
                tensors, values = self.fits.state()
                own = {"date": self._date, "calls": report.network_calls, "handcrafted": fitting.handcrafted}
                due = tensors, {"fits": values, **own}
                if time.monotonic() - kept >= KEPT_EVERY:
                    self._state.save(*due)
                    kept, due = time.monotonic(), None
                tell(report)
        finally:
            if due is not None:  # the last line, also of a fit that was broken off
                self._state.save(*due)

    def _compare(self, fitting: Fitting) -> bool:
        """Measure the others; whether the fitted solver is the best."""
        name, error = fitting.best_handcrafted()
        find, calls = self.network.checkpoint.rivals, fitting.solver.network_calls
        rivals = {} if find is None else find(calls, self._names, self.network.count)
        others = {rival: fitting.errors(sampler) for rival, sampler in rivals.items()}
        errors = {FITTED: fitting.fitted, name: error, **{rival: float(own.mean()) for rival, own in others.items()}}
        if fitting.kept == UNTRAINED:
            errors[UNTRAINED] = fitting.before
        self._rivals[fitting.steps] = rivals
        self._errors[fitting.steps] = dict(sorted(errors.items(), key=lambda one: one[1]))
        fitted = torch.tensor(fitting.by_pair, dtype=torch.float64)
        return fitting.kept == "fitted" and not any(is_worse(fitted, own) for own in others.values())

    def best_so_far(self) -> Result | None:
        """After it was broken off: the solvers that beat the best handcrafted one on pairs that they never saw."""
        if not self.fits.begun:
            return None
        current, errors = self.fits.current, dict[int, Errors]()
        if math.isnan(current.fitted) and current.handcrafted is not None and current.fit.history:
            current.solver, current.training_pairs = current.fit.current(), current.pairs.training_pairs
            current.fitted = current.after = current.error(current.solver)
        for fitting in self.fits.fittings:
            if fitting.handcrafted is not None and fitting.kept == "fitted":
                name, error = fitting.best_handcrafted()
                if fitting.fitted < error:
                    errors[fitting.steps] = {FITTED: fitting.fitted, name: error}
        better = [fitting for fitting in self.fits.fittings if fitting.steps in errors]
        return Result(self._file(better, unfinished=True), errors, list(errors)) if better else None

    def settings(self) -> dict[str, Any]:
        """What else must be the same where a file is of the same fit, by the names of its provenance, and `steps`."""
        checkpoint = self.network.checkpoint
        told: dict[str, Any] = {
            "shape": list(checkpoint.shape),
            "shift": checkpoint.shift,
            "guidance": checkpoint.guidance,
        }
        told |= {"model_family": checkpoint.model_family, **checkpoint.made_for}
        told |= {"fingerprint": identity(self.network).get("fingerprint")}
        return told | {"effort": self.options.effort, "seed": self.options.seed, "steps": list(self.options.members)}

    def beside_teacher(self, solver: Solver) -> tuple[Tensor, Tensor]:
        """Endpoints [*shape] of the teacher and of a solver, from noise that the fit never sees; not counted."""
        block = self.fits.pairs.test[0]
        return block.target[0], endpoint(Network(self.network.checkpoint), block, solver)[0]

    def latents(self, steps: int, names: Sequence[str], most: int) -> Tensor:
        """[pairs, names, *shape] endpoints of `most` pairs at most that the fit never saw: of the teacher, the solver
        for this many steps, and rivals by name."""
        solver = next(fitting.solver for fitting in self.fits.fittings if fitting.steps == steps)
        samplers: dict[str, Sampler] = {**self._rivals[steps], FITTED: solver}
        rows = []
        for block in list(self.fits.pairs.test)[:most]:
            made = {name: endpoint(self.network, block, samplers[name]) for name in names if name != TEACHER}
            rows.append(torch.stack([{TEACHER: block.target, **made}[name][0].float().cpu() for name in names]))
        return torch.stack(rows)

    @property
    def left(self) -> Path | None:
        """The file that an earlier run left when it was broken off, if it is still that."""
        note = self.folder / "left"
        digest, _, path = note.read_text("utf-8").partition(" ") if note.is_file() else ("", "", "")
        return Path(path) if digest and digest == _digest(Path(path)) else None

    @left.setter
    def left(self, path: Path) -> None:
        write_whole(self.folder / "left", f"{_digest(path)} {path}".encode())

    def forget(self) -> None:
        """Throw away what was kept: the file is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, fittings: Sequence[Fitting], unfinished: bool = False) -> SolverFile:
        more = {"unfinished": True} if unfinished else {}
        made_for = [cast(Provenance, {**provenance(fitting, self._date), **more}) for fitting in fittings]
        return together([SolverFile(one.solver, told) for one, told in zip(fittings, made_for, strict=True)])


def _forget_old(folder: Path) -> None:
    """Throw away what fits left that nobody went on with."""
    for one in folder.glob("*"):
        with contextlib.suppress(OSError):
            if time.time() - one.stat().st_mtime > KEPT_DAYS * 86_400:
                shutil.rmtree(one, ignore_errors=True)


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
