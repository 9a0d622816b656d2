"""One fit, from its options to a solver that was judged; `trainer.distill` and `fit_solver` run it."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dyweight import DyWeight, Solver

from .checkpoints.load import checked, load_checkpoint
from .checkpoints.protocol import Checkpoint
from .compare.endpoint_error import endpoint, endpoint_error, error_or_infinity
from .fit import Fit, Progress
from .fit.budget import DOUBLINGS, Effort, calls_of, teacher_steps
from .fit.choose import is_small, make_fit
from .fit.evaluations import with_steps
from .fit.guided import with_rows
from .fit.judge import as_table, best_handcrafted, judging_calls
from .fit.new_solver import new_solver
from .losses.features import Latent
from .options.distill import DistillOptions
from .pairs.pairs import Pairs, deviation
from .pairs.targets import FINGERPRINT_CALLS, Targets
from .pairs.teacher import Teacher
from .run.cluster import ALONE, Cluster
from .run.network import Network
from .run.resume import comparable

CLOSE_ENOUGH = 0.04
"""Of the untrained solver's squared error: how far a teacher may be from one with twice the steps."""
SMALL_TIMES, GUIDED_TIMES = 3, 2
"""More calls for latents that hold little, and where guidance is learned, with about twice the numbers."""


@dataclass(frozen=True)
class Fitted:
    """What `fit_solver` returns."""

    solver: Solver
    errors: dict[str, float]
    """Relative endpoint errors on pairs that the fit never saw: `untrained`, `fitted`, and `kept` of `solver`, which is
    the untrained or the best handcrafted one where that has the smaller error."""
    network_calls: int
    seconds: float


@dataclass(frozen=True)
class FitProgress:
    """One report of a running fit."""

    network_calls: int
    expected_calls: int
    """Of the whole fit, at most."""
    error: float
    """On the pairs that it trains on."""
    best: float
    """The smallest so far."""
    solver: Solver
    """The best so far."""


class Fitting:
    """A solver, the pairs, and the fit that moves the one by the other."""

    pairs: Pairs
    fit: Fit

    def __init__(self, options: DistillOptions, network: Network, cluster: Cluster, cache: Path | None) -> None:
        """No network call is made before `begin`. cache: folder for endpoints. Raises TrainerError where options don't
        fit the checkpoint."""
        self.options, self.network, self.cluster, self._cache = options, network, cluster, cache
        self.solver = new_solver(options, network)
        self.before, self.fitted, self.after = math.nan, math.nan, math.nan
        self.validation = (math.nan, math.nan)
        self._untrained = copy.deepcopy(self.solver)
        self._judging = 0
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
        told: Callable[[str], object],
    ) -> "Fitting":
        """The fitting of options that may leave the steps to it, which takes fits for each choice; told: of each."""

        def error_of(draft: DistillOptions) -> float:
            fitting = cls(draft, network, cluster, cache)
            fitting.begin()
            for _ in fitting.run():
                pass
            fitting.judge()
            return fitting.fitted

        return cls(with_steps(options, error_of, told), network, cluster, cache)

    @property
    def _adam(self) -> bool:
        return self.options.fitted_by == "adam"

    def begin(self) -> None:
        """Choose the teacher and make the fit; once, before `run` or before its state is restored."""
        if "fit" in vars(self):
            return
        options, network = self.options, self.network
        own = {"resume": options.resume, "fingerprint": network.checkpoint.fingerprint}
        self.cluster.agree({name: str(value) for name, value in (comparable(asdict(options)) | own).items()})
        targets = self._targets(self._teacher(), options.batch_size)
        if self._adam:
            self.pairs = Pairs(targets, options.pairs or 10_000, options.judging_pairs, options.report_pairs)
            judging = 2 * self.pairs.test_pairs * self._each + self.pairs.expected_test_calls()
            self._judging = judging + 2 * self.pairs.validation_pairs * self._each
            self.fit = make_fit(options, self.solver, network, self.pairs, 0)
        else:
            self.pairs = Pairs(targets, 0, 0, options.judging_pairs, self._targets(targets.teacher, 1))
            self._judging = judging_calls(self.solver, network, self.pairs)
            # Whatever is cached, the fit may make the same number of calls, so that it ends with the same file.
            endpoints = self.pairs.test_pairs * targets.teacher_calls
            left = self.calls - self._judging - endpoints - self._looked
            self.fit = make_fit(options, self.solver, network, self.pairs, left)
            len(self.pairs.test)

    @property
    def calls(self) -> int:
        """The budget of gauss-newton."""
        times = self.network.per_call * (SMALL_TIMES if is_small(self.network) else 1)
        times *= GUIDED_TIMES if self.solver.guided else 1
        return self.options.calls or calls_of(self.options.effort, self.solver.network_calls) * times

    @property
    def _each(self) -> int:
        """Network calls of a sample."""
        return self.network.evaluations(self.solver)

    def expected_calls(self) -> int:
        """Network calls that are left at most, judging included."""
        return self.fit.expected_calls() + self._judging if "fit" in vars(self) else self.calls

    def run(self) -> Iterator[Progress]:
        """Fit; the state is consistent at each line. The validation error that an earlier run began with is kept."""
        if math.isnan(self.validation[0]) and self.pairs.validation_blocks:
            self.validation = (self._validation_error(), math.nan)
            self._judging -= self.pairs.validation_pairs * self._each
        yield from self.fit.run()
        self._take(self.fit.solver)

    def _take(self, solver: Solver) -> None:
        """The solver of the fit; before it there was one with the same guided rows, and constant guidance."""
        if isinstance(solver, DyWeight) and solver.guided != self.solver.guided:
            assert isinstance(self._untrained, DyWeight)
            self._untrained = with_rows(self._untrained, solver.guided)
        self.solver = solver

    def judge(self) -> list[str]:
        """Measure the result on pairs that the fit never saw and keep what is better than it; warnings for the user."""
        self.before, self.fitted = self._error(self._untrained), self._error(self.solver)
        self.after = self.fitted
        self.validation = (self.validation[0], self._validation_error())
        told = self._keep_the_better() if self.options.loss == "l2" else []
        if self.after > 1:
            told.append(
                f"warning: the endpoint error {self.after:.5f} is above 1, which is worse than a constant guess: give "
                "more --steps, or check the model and its schedule"
            )
        return told

    def _keep_the_better(self) -> list[str]:
        more = "give more --pairs" if self._adam else "give a higher --effort or more --calls"
        name, best = (
            ("", math.inf)
            if self._adam
            else best_handcrafted(self.network, self.pairs, self._each // self.network.per_call)
        )
        # Adam's iterate is chosen on pairs of its own, so the unseen ones decide nothing.
        lost = self.validation[1] >= self.validation[0] if self._adam else self.after >= min(self.before, best)
        if lost and self.before <= best:
            self.solver.load_state_dict(self._untrained.state_dict())
            self.after, self.validation = self.before, (self.validation[0], self.validation[0])
            return [f"warning: {more}: the fit found nothing better than the untrained solver, which is kept"]
        if lost:
            self.solver, self.after = as_table(self.network, self._each // self.network.per_call, name), best
            return [f"warning: {more}: {name} ends at {best:.5f} and the fit at {self.fitted:.5f}; {name} is kept"]
        if self.after >= self.before:
            return [
                f"warning: {more}: on {self.pairs.test_pairs} unseen pairs the fitted solver has {self.after:.5f}, the "
                f"untrained one {self.before:.5f}"
            ]
        return []

    def _error(self, solver: Solver) -> float:
        unit = Latent(deviation(self.pairs.test, self.cluster))
        return error_or_infinity(self.network, self.pairs.test, solver, unit, self.cluster)

    def _validation_error(self) -> float:
        if not self.pairs.validation_blocks:
            return math.nan
        return endpoint_error(
            self.network, self.pairs.validation, self.solver, Latent(self.pairs.deviation), self.cluster
        )

    def _targets(self, teacher: Teacher, batch: int) -> Targets:
        return Targets(self.network, teacher, self.options.seed, batch, self._cache, self.cluster)

    def _teacher(self) -> Teacher:
        """As given, or the method's own: for gauss-newton with as many steps as one pair shows to be enough."""
        if self.options.teacher is not None or self._adam:
            return Teacher.parse(self.options.teacher or "ipndm:35")
        first = teacher_steps(self.options.steps)
        steps, looked = self.cluster.from_first(lambda: self._enough(first))
        self._looked += looked
        return Teacher("ipndm", steps)

    def _enough(self, steps: int) -> list[int]:
        """Steps of a teacher that is close enough to one with twice as many, and the network calls of finding out."""
        looked = steps * self.network.per_call
        near = self._targets(Teacher("ipndm", steps), 1).block("test", 0)
        for _ in range(DOUBLINGS[self.options.effort]):
            far = self._targets(Teacher("ipndm", 2 * steps), 1).block("test", 0)
            own = endpoint(self.network, far, self._untrained) - far.target
            looked += 2 * steps * self.network.per_call + self._each
            if float((near.target - far.target).square().sum()) <= CLOSE_ENOUGH * float(own.square().sum()):
                break
            near, steps = far, 2 * steps
        return [steps, looked]


def fit_solver(
    checkpoint: Checkpoint | str,
    steps: int,
    *,
    effort: Effort = "normal",
    seed: int = 0,
    progress: Callable[[FitProgress], object] | None = None,
    **options: Any,
) -> Fitted:
    """Fit a few-step solver to a frozen model.

    checkpoint: an object as `trainer.checkpoints.protocol` describes it, or what `--ckpt` takes. steps: at most, where
    `learn_guidance` and `evaluations` choose them. effort: how many network calls it may make. progress: called at each
    trial; an exception that it raises ends the fit. options: those of `trainer.distill`, as `order=2` or `calls=800`.
    Raises TrainerError with what to do.
    """
    started = time.monotonic()
    name = checkpoint if isinstance(checkpoint, str) else type(checkpoint).__name__
    given = DistillOptions(ckpt=name, steps=steps, out=Path("solver.safetensors"), effort=effort, seed=seed, **options)
    made = load_checkpoint(name, given) if isinstance(checkpoint, str) else checked(checkpoint, name)
    network = Network(made, given.per_call)
    fitting = Fitting.of(given, network, ALONE, given.cache, print)
    fitting.begin()
    best = math.inf
    for line in fitting.run():
        best = min(best, line.training_error)
        if progress is not None:
            calls = network.total
            most = calls + fitting.expected_calls()
            progress(FitProgress(calls, most, line.training_error, best, fitting.fit.current()))
    for warning in fitting.judge():
        print(warning)
    errors = {"untrained": fitting.before, "fitted": fitting.fitted, "kept": fitting.after}
    return Fitted(fitting.solver, errors, network.total, time.monotonic() - started)
