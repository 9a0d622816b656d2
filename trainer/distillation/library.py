"""The fit as a library."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyweight import Solver, SolverSet

from ..checkpoints.load import checked, load_checkpoint
from ..checkpoints.protocol import Checkpoint
from ..fit.budget import Effort
from ..options.distill import DistillOptions
from ..run.cluster import ALONE
from ..run.errors import TrainerError
from ..run.network import Network
from .fitting_set import FittingSet
from .progress import FitProgress, reports


@dataclass(frozen=True)
class Fitted:
    """What `fit_solver` returns."""

    solver: Solver | SolverSet
    """A `SolverSet` where several numbers of steps were given."""
    errors: dict[str, float]
    """Relative endpoint errors on pairs that the fit never saw: `untrained`, `fitted`, and `kept` of `solver`, which is
    the untrained or the best handcrafted one where that has the smaller error. Of a set the medians of its members."""
    member_errors: dict[int, dict[str, float]]
    """The same by number of steps."""
    network_calls: int
    seconds: float


UNUSED = {"add", "out", "report", "resume"}
"""Options of `trainer.distill` about its file."""


def fit_solver(
    checkpoint: Checkpoint | str,
    steps: int | Sequence[int],
    *,
    effort: Effort = "normal",
    seed: int = 0,
    progress: Callable[[FitProgress], object] | None = None,
    **options: Any,
) -> Fitted:
    """Fit a few-step solver to a frozen model, or a set of them that share pairs and starts.

    checkpoint: an object as `trainer.checkpoints.protocol` describes it, or what `--ckpt` takes. steps: a number of
    steps, or several, for which all together make 0.6 of the calls of fits alone. effort: how many network calls it may
    make. progress: called at each trial; an exception that it raises ends the fit. options: those of `trainer.distill`,
    as `order=2` or `calls=800`, but not those about its file; endpoints of the teacher are kept only where
    `cache` names a folder. Raises TrainerError with what to do.
    """
    started = time.monotonic()
    name = checkpoint if isinstance(checkpoint, str) else type(checkpoint).__name__
    if unused := sorted(UNUSED & options.keys()):
        raise TrainerError(
            f"leave out {', '.join(unused)}: fit_solver writes no file and keeps no state; python -m trainer.distill "
            "does"
        )
    if options.get("keep_targets") and "cache" not in options:
        raise TrainerError("give cache=FOLDER beside keep_targets=True: fit_solver keeps the teacher's endpoints there")
    several = (steps,) if isinstance(steps, int) else tuple(steps)
    given = DistillOptions(
        ckpt=name, steps=several, out=Path("solver.safetensors"), effort=effort, seed=seed, **options
    )
    made = load_checkpoint(name, given, given.cache) if isinstance(checkpoint, str) else checked(checkpoint, name)
    network = Network(made, given.per_call)
    fits = FittingSet.of(given, network, ALONE, given.cache if given.keep_targets else None)
    fits.begin()
    for fitting in fits.unfinished():
        for report in reports(fits, fitting):
            if progress is not None:
                progress(report)
        for warning in fitting.judge():
            print(warning)
    by_steps = {f.steps: {"untrained": f.before, "fitted": f.fitted, "kept": f.after} for f in fits.fittings}
    errors = {
        name: statistics.median(own[name] for own in by_steps.values()) for name in ("untrained", "fitted", "kept")
    }
    return Fitted(fits.solver, errors, by_steps, network.total, time.monotonic() - started)
