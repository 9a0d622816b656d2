"""Fits for one model, one for each number of steps, that share its pairs; run by `distill` and `fit_solver`."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from dyweight import Solver, SolverFile, SolverSet

from ..compare.endpoint_error import endpoint
from ..fit import history_from, history_tensor
from ..fit.budget import DOUBLINGS, TooFewCallsError, calls_of, teacher_steps
from ..fit.choose import budget_for, is_small
from ..fit.evaluations import with_steps
from ..fit.starts import starts_from
from ..fit.together import OF_SINGLE_FITS, Shares
from ..options.distill import DistillOptions
from ..pairs.identity import known_as, same_model
from ..pairs.pairs import Pairs
from ..pairs.targets import FINGERPRINT_CALLS, Targets, fingerprint
from ..pairs.teacher import Teacher
from ..run.cluster import Cluster
from ..run.errors import TrainerError
from ..run.network import Network
from ..run.resume import comparable
from ..run.timing import call_count, expected_time
from .fitting import Fitting

CLOSE_ENOUGH = 0.04
"""Of the untrained solver's squared error: how far a teacher may be from one with twice the steps."""
SMALL_TIMES, GUIDED_TIMES = 3, 2
"""More calls for latents that hold little, and where guidance is learned, with about twice the numbers."""


class FittingSet:
    """The fits of one run, smallest number of steps first. All have the same pairs and teacher, and each may begin with
    what those before it learned. A run for one number of steps is a set of one."""

    pairs: Pairs

    def __init__(
        self,
        options: DistillOptions,
        network: Network,
        cluster: Cluster,
        cache: Path | None,
        beside: Sequence[SolverFile] = (),
    ) -> None:
        """cache: folder for endpoints. beside: solvers of the same model for other numbers of steps; `begin` checks
        that. Only adam, whose calls are known when its pairs are, begins here, with a few network calls; nothing else
        makes one before `begin`. Raises TrainerError where options don't fit the checkpoint."""
        self.options, self.network, self.cluster, self._cache = options, network, cluster, cache
        self.fittings = [Fitting(options, steps, network, cluster) for steps in options.members]
        self._beside = beside
        self._done = 0
        self._looked = FINGERPRINT_CALLS * network.per_call if network.checkpoint.fingerprint is None else 0
        if self._adam:
            self.begin()

    @classmethod
    def of(
        cls,
        options: DistillOptions,
        network: Network,
        cluster: Cluster,
        cache: Path | None,
        beside: Sequence[SolverFile] = (),
        told: Callable[[str], object] = print,
    ) -> "FittingSet":
        """The fits of options that may leave the steps to them, which takes a draft for each choice.

        told: called before and after each draft.
        """

        def error_of(draft: DistillOptions) -> float:
            fits = cls(draft, network, cluster, cache)
            most = fits.expected_calls()
            told(
                f"trying {draft.steps[0]} steps, {draft.unconditional_calls} guided: {call_count(most)}"
                + expected_time(network, most // cluster.size, draft.batch_size)
            )
            fits.begin()
            for fitting in fits.unfinished():
                for _ in fitting.run():
                    pass
                fitting.judge()
            return fits.fittings[0].fitted

        return cls(with_steps(options, error_of, told), network, cluster, cache, beside)

    @property
    def _adam(self) -> bool:
        return self.options.fitted_by == "adam"

    @property
    def current(self) -> Fitting:
        """The fit that runs, or the last one."""
        return self.fittings[min(self._done, len(self.fittings) - 1)]

    @property
    def solver(self) -> Solver | SolverSet:
        """What the fits found, as it goes into the file of a new run."""
        solvers = [fitting.solver for fitting in self.fittings]
        return solvers[0] if len(solvers) == 1 else SolverSet(solvers)

    @property
    def begun(self) -> bool:
        """Whether `begin` was called."""
        return "pairs" in vars(self)

    def begin(self) -> None:
        """Choose the teacher, and make the pairs that all share and the first fit; once, before `unfinished`."""
        if self.begun:
            return
        options = self.options
        self._check_same_model()
        own = {"resume": options.resume, "fingerprint": fingerprint(self.network)}
        self.cluster.agree({name: str(value) for name, value in (comparable(asdict(options)) | own).items()})
        targets = self._targets(self._teacher(), options.batch_size)
        if self._adam:
            self.pairs = Pairs(targets, options.pairs or 10_000, options.judging_pairs, options.report_pairs)
        else:
            self.pairs = Pairs(targets, 0, 0, options.judging_pairs, self._targets(targets.teacher, 1))
        for fitting in self.fittings:
            fitting.share(self.pairs)
        if not self._adam:
            # Whatever is cached, the fits may make the same number of calls, so that they end with the same file.
            endpoints = self.pairs.test_pairs * targets.teacher_calls
            left = self.calls - sum(fitting.judging for fitting in self.fittings) - endpoints - self._looked
            elements = math.prod(self.network.checkpoint.shape)
            self._shares = Shares([fitting.solver for fitting in self.fittings], left, elements)
            for fitting, part in zip(self.fittings, self._shares.of_all, strict=True):
                fitting.whole, fitting.part = self.calls, part
        self._begin_next()
        if not self._adam:
            len(self.pairs.test)

    def _begin_next(self) -> None:
        if self._adam:
            return self.current.begin(0)
        earlier = [
            *(file.solver for file in self._beside),
            *(fitting.solver for fitting in self.fittings[: self._done]),
        ]
        first = 1
        if len(self.fittings) > 1:
            solvers = [fitting.solver for fitting in self.fittings]
            budget = budget_for(self.options, solvers, self.network, self.pairs, self._shares.calls)
            try:
                first = self._shares.blocks(budget, self.pairs.targets.batch, self.pairs.targets.teacher_calls)
            except TooFewCallsError as error:
                raise self.current.too_few(error.pairs, error.missing) from error
            self._shares.spent += self.pairs.calls_to_take(first)
            self.pairs.take(first)
        starts = starts_from(self.current.solver, earlier)
        self.current.begin(self._shares.next(self._done), starts, first)

    @property
    def calls(self) -> int:
        """The budget of gauss-newton."""
        if self.options.calls is not None:
            return self.options.calls
        alone = [calls_of(self.options.effort, fitting.solver.network_calls) for fitting in self.fittings]
        times = self.network.per_call * (SMALL_TIMES if is_small(self.network) else 1)
        times *= GUIDED_TIMES if self.options.learn_guidance else 1
        return times * (alone[0] if len(alone) == 1 else int(OF_SINGLE_FITS * sum(alone)))

    def expected_calls(self) -> int:
        """Network calls that are left at most, judging included."""
        if not self.begun:
            return self.calls
        judging = sum(fitting.judging for fitting in self.fittings[self._done :])
        if self._adam or self._done + 1 >= len(self.fittings):
            return self.current.fit.expected_calls() + judging
        return self._shares.calls - self._shares.spent - self.current.fit.spent + judging

    def unfinished(self) -> Iterator[Fitting]:
        """The fits that are not done, one after the other, each to be run and judged before the next."""
        while self._done < len(self.fittings):
            yield self.current
            if not self._adam:
                self._shares.spent += self.current.fit.spent
            self._done += 1
            if self._done < len(self.fittings):
                self._begin_next()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that a later process needs to go on: tensors, and JSON values."""
        tensors, done = self.current.fit.state(), self.fittings[: self._done]
        values: dict[str, Any] = {"validation": self.current.validation, "done": [one.judged() for one in done]}
        if done:
            solvers = SolverSet(fitting.solver for fitting in done)
            values |= {"settings": solvers.settings(), "spent": self._shares.spent}
            tensors |= {f"solver.{name}": value for name, value in solvers.tensors().items()}
            tensors |= {f"lines.{fitting.steps}": history_tensor(fitting.history) for fitting in done}
        return tensors, values

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go on from what `state` gave, after `begin`."""
        done = values["done"]
        if done:
            own = {name.removeprefix("solver."): value for name, value in tensors.items() if name.startswith("solver.")}
            solvers = SolverSet.from_file(values["settings"], own)
            for fitting, judged in zip(self.fittings, done, strict=False):
                lines = history_from(tensors[f"lines.{fitting.steps}"])
                fitting.restore_judged(solvers.member(fitting.steps), lines, judged)
            self._done, self._shares.spent = len(done), values["spent"]
            self._begin_next()
        self.current.fit.restore(tensors)
        self.current.validation = (values["validation"][0], math.nan)

    def _check_same_model(self) -> None:
        own = known_as(self.network) if self._beside else {}
        for file in self._beside:
            if not same_model(own, file.provenance):
                raise TrainerError(
                    f"--add: give the model of {file.path}, or --steps and another --out: its solver for "
                    f"{file.solver.steps} steps is for another model than {self.options.ckpt}"
                )

    def _targets(self, teacher: Teacher, batch: int) -> Targets:
        return Targets(self.network, teacher, self.options.seed, batch, self._cache, self.cluster)

    def _teacher(self) -> Teacher:
        """As given, or the method's own: for gauss-newton with as many steps as one pair shows to be enough."""
        if self.options.teacher is not None or self._adam:
            return Teacher.parse(self.options.teacher or "ipndm:35")
        first = teacher_steps(self.fittings[-1].steps)
        steps, looked = self.cluster.from_first(lambda: self._enough(first))
        self._looked += looked
        return Teacher("ipndm", steps)

    def _enough(self, steps: int) -> list[int]:
        """Steps of a teacher that is close enough to one with twice as many, and the network calls of finding out."""
        looked, finest = steps * self.network.per_call, self.fittings[-1].untrained
        near = self._targets(Teacher("ipndm", steps), 1).block("test", 0)
        for _ in range(DOUBLINGS[self.options.effort]):
            far = self._targets(Teacher("ipndm", 2 * steps), 1).block("test", 0)
            own = endpoint(self.network, far, finest) - far.target
            looked += 2 * steps * self.network.per_call + self.network.evaluations(finest)
            if float((near.target - far.target).square().sum()) <= CLOSE_ENOUGH * float(own.square().sum()):
                break
            near, steps = far, 2 * steps
        return [steps, looked]
