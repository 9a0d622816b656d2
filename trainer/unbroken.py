"""A fit that may be broken off at any call: the next one of the same goes on, and ends with the same file."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

import dyweight
from dyweight import Provenance, Solver, SolverFile

from .checkpoints.load import checked
from .checkpoints.protocol import Checkpoint, Rival
from .compare.endpoint_error import Sampler, endpoint, errors_at_equal_calls
from .distill import provenance, today
from .fitting import FitProgress, Fitting
from .options.distill import DistillOptions
from .run.cluster import ALONE
from .run.network import Network
from .run.resume import ResumeFile, comparable
from .run.timing import seconds_per_call

FITTED, TEACHER = "dyweight", "teacher"


@dataclass(frozen=True)
class Result:
    """What came out of a fit."""

    file: SolverFile
    errors: dict[str, float]
    """Endpoint errors on pairs that the fit never saw, best first: of the fitted solver, `dyweight`, and of others at
    the same number of network calls."""
    network_calls: int

    @property
    def best(self) -> str:
        """The sampler with the smallest error."""
        return min(self.errors, key=self.errors.__getitem__)


class UnbrokenFit:
    """One fit, what is kept of it until it is done, and its result."""

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
        told = [comparable(asdict(options)), self.network.checkpoint.fingerprint, dyweight.__version__]
        key = hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:24]
        self._folder = cache / "unfinished" / key
        self._state = ResumeFile(self._folder / "fit", {"key": key})
        self.fitting = Fitting(options, self.network, ALONE, self._folder)
        self._names, self._date, self._done = tuple(rivals), today(), 0
        self._rivals: dict[str, Rival] = {}

    def expected_calls(self, pictures: int) -> int:
        """Network calls of it all, at most, `latents` of so many pairs included."""
        compared = len(self._names) * (self.options.judging_pairs + 2) + 2 * pictures
        return self.fitting.expected_calls() + compared * self.fitting.solver.network_calls

    def seconds(self, pictures: int) -> float:
        """The same in seconds, after one timed call."""
        return self.expected_calls(pictures) * seconds_per_call(self.network, self.options.batch_size)

    def run(self, tell: Callable[[FitProgress], object]) -> Result:
        """Fit, from the beginning or from where it was broken off. tell: called at each trial."""
        fitting, network = self.fitting, self.network
        fitting.begin()
        kept = self._state.load()
        if kept is not None:
            state, extra = kept
            fitting.fit.restore(state)
            self._date, self._done, fitting.handcrafted = extra["date"], extra["calls"], tuple(extra["handcrafted"])
        fitting.best_handcrafted()
        best = min((line.training_error for line in fitting.fit.history), default=math.inf)
        for line in fitting.run():
            best = min(best, line.training_error)
            calls = self._done + network.total
            extra = {"date": self._date, "calls": calls, "handcrafted": fitting.handcrafted}
            self._state.save(fitting.fit.state(), extra)
            most = calls + fitting.expected_calls()
            tell(FitProgress(calls, most, line.training_error, best, fitting.fit.current()))
        fitting.judge()
        name, error = fitting.best_handcrafted()
        calls = fitting.solver.network_calls
        found = network.checkpoint.rivals
        self._rivals = {} if found is None else found(calls, self._names, network.count)
        errors = errors_at_equal_calls(network, list(fitting.pairs.test), self._rivals)
        errors = {FITTED: fitting.fitted, name: error, **errors}
        return Result(self._file(), dict(sorted(errors.items(), key=lambda one: one[1])), self._done + network.total)

    def best_so_far(self) -> Result | None:
        """After it was broken off: the best solver, if it beats the best handcrafted one on pairs that it never saw."""
        fitting = self.fitting
        if "fit" not in vars(fitting) or fitting.handcrafted is None or not fitting.fit.history:
            return None
        fitting.solver = fitting.fit.current()
        fitting.before, fitting.fitted = math.nan, fitting.error(fitting.solver)
        fitting.after = fitting.fitted
        name, error = fitting.handcrafted
        if fitting.after >= error:
            return None
        return Result(
            self._file(unfinished=True), {FITTED: fitting.after, name: error}, self._done + self.network.total
        )

    def settings(self) -> dict[str, Any]:
        """What else must be the same where a file is of the same fit, by the names of its provenance, and `steps`."""
        checkpoint = self.network.checkpoint
        told = {**checkpoint.made_for, "conditions_digest": checkpoint.made_for.get("conditions_digest")}
        told |= {"shape": list(checkpoint.shape), "shift": checkpoint.shift, "guidance": checkpoint.guidance}
        told |= {
            "model_family": checkpoint.model_family,
            "scheduler": (checkpoint.schedule_recipe or {}).get("scheduler"),
        }
        return told | {"effort": self.options.effort, "seed": self.options.seed, "steps": [self.options.steps]}

    def beside_teacher(self, solver: Solver) -> tuple[Tensor, Tensor]:
        """Endpoints [*shape] of the teacher and of a solver, from noise that the fit never sees; not counted."""
        block = self.fitting.pairs.test[0]
        return block.target[0], endpoint(Network(self.network.checkpoint), block, solver)[0]

    def latents(self, names: Sequence[str], most: int) -> Tensor:
        """[pairs, names, *shape] endpoints of at most so many pairs that the fit never saw: of the teacher, the fitted
        solver, and rivals by name."""
        rows = []
        for block in list(self.fitting.pairs.test)[:most]:
            samplers: dict[str, Sampler] = {**self._rivals, FITTED: self.fitting.solver}
            made = {name: endpoint(self.network, block, samplers[name]) for name in names if name != TEACHER}
            rows.append(torch.stack([{TEACHER: block.target, **made}[name][0].float().cpu() for name in names]))
        return torch.stack(rows)

    def forget(self) -> None:
        """Throw away what was kept: it is done."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, unfinished: bool = False) -> SolverFile:
        made_for = provenance(self.fitting, self._date)
        return SolverFile(
            self.fitting.solver, cast(Provenance, {**made_for, "unfinished": True}) if unfinished else made_for
        )
