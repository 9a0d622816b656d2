"""One fit, from its options to a solver that was judged; `fitting_set.py` runs one or several."""

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from dyweight import Solver

from ..compare.endpoint_error import Sampler, endpoint_error, pair_errors
from ..fit import Fit, Progress
from ..fit.budget import TooFewCallsError
from ..fit.choose import make_fit
from ..fit.judge import as_table, best_handcrafted, handcrafted_rivals, is_worse, judging_calls
from ..fit.new_solver import new_solver
from ..losses.features import Latent
from ..options.distill import DistillOptions
from ..pairs.pairs import Pairs
from ..run.cluster import Cluster
from ..run.errors import TrainerError
from ..run.network import Network


class Fitting:
    """A solver, the pairs, and the fit that moves the one by the other."""

    pairs: Pairs
    fit: Fit

    def __init__(self, options: DistillOptions, steps: int, network: Network, cluster: Cluster) -> None:
        """Raises TrainerError where options don't fit the checkpoint."""
        self.options, self.steps, self.network, self.cluster = options, steps, network, cluster
        self.solver = new_solver(options, steps, network)
        self.untrained = copy.deepcopy(self.solver)
        self.before, self.fitted, self.after = math.nan, math.nan, math.nan
        self.validation = (math.nan, math.nan)
        self.kept = "fitted"
        """What `solver` is after `judge`: fitted, untrained, or the name of a handcrafted one."""
        self.handcrafted: tuple[str, list[float]] | None = None
        """Name of the best one and its error on each unseen pair, where it is known."""
        self.training_pairs = self.judging = self.whole = 0
        self.part = 1.0
        """`whole`: the calls of all fits of the run, judging and teacher included. `part`: what this one surely has."""
        self.history: list[Progress] = []

    @property
    def _adam(self) -> bool:
        return self.options.fitted_by == "adam"

    def share(self, pairs: Pairs) -> None:
        """Take the pairs, which other fits may share. `judging` is then the calls of what is not the fit, at most."""
        self.pairs = pairs
        if self._adam:
            pairs_judged = pairs.test_pairs + pairs.validation_pairs
            self.judging = 2 * pairs_judged * self._each + pairs.expected_test_calls()
        else:
            self._rivals = handcrafted_rivals(self.network, self._equal_calls)
            self.judging = judging_calls(self.solver, self.network, pairs, self._rivals)

    def begin(self, calls: int, starts: Sequence[Solver] = (), blocks: int = 1) -> None:
        """Make the fit; once, before `run` or before its state is restored. The rest as `make_fit` has it."""
        self.fit = make_fit(self.options, self.solver, self.network, self.pairs, calls, starts, blocks)

    def run(self) -> Iterator[Progress]:
        """Fit; the state is consistent at each line. The validation error that an earlier run began with is kept."""
        if math.isnan(self.validation[0]) and self.pairs.validation_blocks:
            self.validation = (self._validation_error(), math.nan)
            self.judging -= self.pairs.validation_pairs * self._each
        _ = self.pairs.deviation  # a sum over all processes, and one without pairs to train on never asks for it
        try:
            yield from self.fit.run()
        except TooFewCallsError as error:
            raise self.too_few(error.pairs, error.missing / self.part) from error
        self._take(self.fit.solver)

    def too_few(self, pairs: int, missing: float) -> TrainerError:
        """What to give where the calls of the run do not hold the pairs to begin with."""
        return TrainerError(
            "give a higher --effort, --calls {needed} or more, or {smaller}: the {whole} calls of {given} do not hold "
            "the first {pairs} pairs",
            needed=self.whole + math.ceil(missing),
            smaller="fewer --pairs" if self.options.pairs else "a smaller --batch",
            whole=self.whole,
            given="--calls" if self.options.calls else f"--effort {self.options.effort}",
            pairs=pairs,
        )

    @property
    def _each(self) -> int:
        """Network calls of a sample."""
        return self.network.evaluations(self.solver)

    @property
    def _equal_calls(self) -> int:
        """Network calls of a handcrafted solver that costs as much as the fitted one, before the fit and after it."""
        guided = len(self.solver.guided)
        fewer = guided - min(guided, self.options.unconditional_calls or guided)
        return (self._each - fewer) // self.network.per_call

    def _take(self, solver: Solver) -> None:
        """The solver of the fit; before it there was one with the same guided rows, and constant guidance."""
        if solver.guided != self.solver.guided:
            self.untrained = self.untrained.guiding(solver.guided)
        self.solver = solver

    def judge(self) -> list[str]:
        """Measure the result on pairs that the fit never saw and keep what is better than it; warnings for the user."""
        self.history, self.training_pairs = self.fit.history, self.pairs.training_pairs
        before, fitted = self.errors(self.untrained), self.errors(self.solver)
        self.before, self.fitted, self.by_pair = float(before.mean()), float(fitted.mean()), fitted.tolist()
        self.after = self.fitted
        self.validation = (self.validation[0], self._validation_error())
        told = self._keep_the_better(before, fitted) if self.options.loss == "l2" else []
        if self.after > 1:
            told.append(
                f"warning: the endpoint error {self.after:.5f} is above 1, which is worse than a constant guess: give "
                "more --steps, or check the model and its schedule"
            )
        return told

    def _keep_the_better(self, before: Tensor, fitted: Tensor) -> list[str]:
        """before, fitted: [pairs] errors of the untrained and the fitted solver."""
        more = "give more --pairs" if self._adam else "give a higher --effort or more --calls"
        name, best = ("", math.inf) if self._adam else self.best_handcrafted()
        if self._adam:  # its iterate is chosen on pairs of its own, so the unseen ones decide nothing
            lost = self.validation[1] >= self.validation[0]
        else:
            assert self.handcrafted is not None
            handcrafted = torch.tensor(self.handcrafted[1], dtype=torch.float64)
            lost = is_worse(fitted, before if self.before <= best else handcrafted)
        kept_as_it_is = lost and self._equal_calls != self.steps and is_worse(fitted, before)
        if (lost and self.before <= best) or kept_as_it_is:
            self.solver.load_state_dict(self.untrained.state_dict())
            self.after, self.validation = self.before, (self.validation[0], self.validation[0])
            self.kept = "untrained"
            return [f"warning: {more}: the fit found nothing better than the untrained solver, which is kept"]
        if lost and self._equal_calls == self.steps:
            table = as_table(self.network, self._equal_calls, name)
            self.solver, self.after, self.kept = table, best, name
            return [f"warning: {more}: {name} ends at {best:.5f} and the fit at {self.fitted:.5f}; {name} is kept"]
        if self.after >= min(self.before, best):
            other, error = ("the untrained one", self.before) if self.before <= best else (name, best)
            few = "" if self._adam else "; that is a few pairs' doing, so it is kept: give more --validation-pairs"
            if lost:
                few = f"; as that takes {self._equal_calls} steps, the file holds the fitted one all the same"
            return [
                f"warning: {more}: on {self.pairs.test_pairs} unseen pairs the fitted solver has {self.after:.5f}, "
                f"{other} {error:.5f}{few}"
            ]
        return []

    def best_handcrafted(self) -> tuple[str, float]:
        """Name and endpoint error of the best one on the pairs that the fit never sees; measured once."""
        if self.handcrafted is None:
            before = self.network.total
            name, errors = best_handcrafted(self.network, self.pairs, self._rivals)
            self.handcrafted = name, errors.tolist()
            self.judging -= self.network.total - before
        name, errors_by_pair = self.handcrafted
        return name, sum(errors_by_pair) / len(errors_by_pair)

    def error(self, solver: Solver) -> float:
        """Endpoint error on the pairs that the fit never sees."""
        return float(self.errors(solver).mean())

    def errors(self, sampler: Sampler) -> Tensor:
        """[pairs] of the pairs that the fit never sees."""
        unit = Latent(self.pairs.test_deviation)
        return pair_errors(self.network, self.pairs.test, sampler, unit, self.cluster)

    def _validation_error(self) -> float:
        if not self.pairs.validation_blocks:
            return math.nan
        return endpoint_error(
            self.network, self.pairs.validation, self.solver, Latent(self.pairs.deviation), self.cluster
        )

    def judged(self) -> dict[str, Any]:
        """What `judge` found, as JSON values; the solver and the history are kept beside it."""
        names = ("before", "fitted", "by_pair", "after", "validation", "training_pairs", "kept", "handcrafted")
        return {name: getattr(self, name) for name in names}

    def restore_judged(self, solver: Solver, history: list[Progress], judged: dict[str, Any]) -> None:
        """As after `judge`."""
        self.solver, self.history = solver, history
        vars(self).update({**judged, "validation": tuple(judged["validation"])})
