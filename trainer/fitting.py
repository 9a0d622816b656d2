"""One fit, from its options to a solver that was judged; `trainer.distill` and `fit_solver` run it."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dyweight import Solver

from .checkpoints.load import checked, load_checkpoint
from .checkpoints.protocol import Checkpoint
from .compare.endpoint_error import endpoint_error
from .fit import Progress
from .fit.budget import Effort
from .fit.choose import make_fit
from .fit.judge import as_table, best_handcrafted, judging_calls
from .fit.new_solver import new_solver
from .losses.features import Latent
from .options.distill import DistillOptions
from .pairs.pairs import Pairs
from .pairs.targets import Targets
from .pairs.teacher import Teacher
from .run.cluster import ALONE, Cluster
from .run.network import Network
from .run.resume import comparable


@dataclass(frozen=True)
class Fitted:
    """What `fit_solver` gives."""

    solver: Solver
    errors: dict[str, float]
    """Relative endpoint errors on pairs that the fit never saw: `untrained`, `fitted`, and `kept` of this solver, which
    is the untrained or the best handcrafted one where the fit is above it."""
    network_calls: int
    seconds: float


@dataclass(frozen=True)
class FitProgress:
    """What a fit tells as it goes on."""

    network_calls: int
    expected_calls: int
    """of the whole fit, at most"""
    error: float
    """on the pairs it trains on"""
    best: float
    """the smallest so far"""
    solver: Solver


class Fitting:
    """A solver, the pairs, and the fit that moves the one by the other."""

    def __init__(self, options: DistillOptions, network: Network, cluster: Cluster, cache: Path | None) -> None:
        """cache: folder for endpoints. Raises TrainerError where options don't fit the checkpoint."""
        self.options, self.network, self.cluster = options, network, cluster
        teacher = Teacher.parse(options.teacher_name)
        targets = Targets(network, teacher, options.seed, options.batch_size, cache, cluster)
        judges = targets if options.method == "adam" else Targets(network, teacher, options.seed, 1, cache, cluster)
        own = {"resume": options.resume, "fingerprint": getattr(network.checkpoint, "fingerprint", None)}
        cluster.agree({name: str(value) for name, value in (comparable(asdict(options)) | own).items()})
        self.solver = new_solver(options, network)
        training = (options.pairs or 10_000) if options.method == "adam" else 0
        self.pairs = Pairs(targets, training, options.judging_pairs, judges)
        self.fit = make_fit(options, self.solver, network, self.pairs)
        self.judging = judging_calls(self.solver, self.pairs)
        self._untrained = copy.deepcopy(self.solver.state_dict())
        self.before, self.fitted, self.after = math.nan, math.nan, math.nan

    def expected_calls(self) -> int:
        """Network calls that are left at most, judging included."""
        return self.fit.expected_calls() + self.judging

    def run(self) -> Iterator[Progress]:
        """Fit; the state is consistent at each line. before: set it where an earlier run has measured it."""
        if math.isnan(self.before):
            self.before = self._error()
            self.judging -= self.pairs.validation_pairs * (self.pairs.judges.teacher_calls + self.solver.network_calls)
        yield from self.fit.run()

    def judge(self) -> str:
        """Measure the result on the held-out pairs, keep what is better than it, and tell of that."""
        self.fitted = self.after = self._error()
        if self.options.loss != "l2":
            return ""
        name, order, best = best_handcrafted(self.network, self.pairs, self.solver.network_calls)
        if min(self.before, best) >= self.after:
            return ""
        self.after = min(self.before, best)
        if self.before <= best:
            self.solver.load_state_dict(self._untrained)
            return f"warning: the untrained solver ends at {self.before:.5f}, the fit at {self.fitted:.5f}: it is kept"
        self.solver = as_table(self.solver, name, order)
        rival = name if order is None else f"{name} of order {order}"
        return (
            f"warning: {rival} ends at {best:.5f}, the fit at {self.fitted:.5f}: kept is the table of {rival}; "
            "give a higher --effort or more --calls"
        )

    def _error(self) -> float:
        features = Latent(self.pairs.deviation)
        return endpoint_error(self.network, self.pairs.validation, self.solver, features, self.cluster)


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

    checkpoint: an object as `trainer.checkpoints.protocol` describes it, or what `--ckpt` takes. effort: how many
    network calls it may take. progress: told of each trial; what it raises ends the fit. options: those of
    `trainer.distill`, as `order=2` or `calls=800`. Raises TrainerError with what to do.
    """
    started = time.monotonic()
    name = checkpoint if isinstance(checkpoint, str) else type(checkpoint).__name__
    given = DistillOptions(ckpt=name, steps=steps, out=Path("solver.safetensors"), effort=effort, seed=seed, **options)
    made = load_checkpoint(name, given) if isinstance(checkpoint, str) else checked(checkpoint, name)
    network = Network(made)
    fitting = Fitting(given, network, ALONE, given.cache)
    best = math.inf
    for line in fitting.run():
        best = min(best, line.training_error)
        if progress is not None:
            calls = network.total
            told = FitProgress(
                calls, calls + fitting.expected_calls(), line.training_error, best, fitting.fit.current()
            )
            progress(told)
    warning = fitting.judge()
    if warning:
        print(warning)
    errors = {"untrained": fitting.before, "fitted": fitting.fitted, "kept": fitting.after}
    return Fitted(fitting.solver, errors, network.total, time.monotonic() - started)
