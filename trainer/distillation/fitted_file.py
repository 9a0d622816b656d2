"""What the coefficient file of a fit says, and that of several."""

import datetime
import math
import os
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

import dyweight
from dyweight import Provenance, SolverFile

from ..pairs.identity import identity
from .fitting import Fitting


def provenance(fitting: Fitting, date: str) -> Provenance:
    """For what and how a file was made; the same run has the same."""
    options, pairs, checkpoint = fitting.options, fitting.pairs, fitting.network.checkpoint
    effort: Provenance = {"effort": options.effort} if options.fitted_by == "gauss-newton" and not options.calls else {}
    best, best_error = fitting.best_handcrafted() if fitting.handcrafted else (None, math.nan)
    chosen: Provenance = {}
    if pairs.validation_pairs:
        before, after = fitting.validation
        chosen = {
            "validation_pairs": pairs.validation_pairs,
            "validation_error_before": _finite(before),
            "validation_error_after": _finite(after),
        }
    own: Provenance = {
        "model": Path(options.ckpt).name,
        "model_family": checkpoint.model_family,
        **identity(fitting.network),
        "prediction_type": checkpoint.prediction_type,
        "shift": checkpoint.shift,
        "guidance": checkpoint.guidance,
        "shape": list(checkpoint.shape),
        "teacher": str(pairs.targets.teacher),
        "method": options.fitted_by,
        **effort,
        "pairs": fitting.training_pairs,
        "loss": options.loss,
        "endpoint_error_before": _finite(fitting.before),
        "endpoint_error_after": _finite(fitting.after),
        "handcrafted": best,
        "endpoint_error_handcrafted": _finite(best_error),
        "endpoint_error_pairs": pairs.test_pairs,
        **chosen,
        "seed": options.seed,
        "versions": {
            "dyweight": dyweight.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "date": date,
    }
    guided: Provenance = {} if fitting.solver.guided_at is None else {"cfg": fitting.solver.guided_at}
    return cast(Provenance, {**own, **guided, **checkpoint.made_for})


def today() -> str:
    """The date for the file; SOURCE_DATE_EPOCH, in seconds, where a build must come out the same on another day."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.fromtimestamp(float(epoch) if epoch else time.time(), datetime.timezone.utc)
    return now.date().isoformat()


def together(members: list[SolverFile]) -> SolverFile:
    """A file of one solver, or of a set."""
    return members[0] if len(members) == 1 else replace(SolverFile.joined(members), path=members[-1].path)


def _finite(error: float) -> float | None:
    return error if math.isfinite(error) else None
