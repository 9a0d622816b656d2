"""`python -m trainer.distill`: fit a few-step solver to a teacher's endpoints and write its coefficient file."""

import copy
import datetime
import importlib.util
import math
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import torch

import dyweight
from dyweight import Provenance, Solver, SolverFile

from .checkpoints.load import load_checkpoint
from .compare.endpoint_error import endpoint_error, error_or_infinity
from .fit import Fit
from .fit.choose import make_fit
from .fit.distillation import Distillation
from .fit.new_solver import new_solver
from .losses.features import Latent
from .options.distill import DistillOptions
from .options.parse import parse
from .pairs.pairs import Pairs, deviation
from .pairs.targets import Targets, default_cache
from .pairs.teacher import Teacher
from .run.cluster import Cluster
from .run.command import CallBar, run, writable_folder
from .run.errors import TrainerError
from .run.memory import peak_bytes, reset_peak
from .run.network import Network
from .run.resume import ResumeFile, comparable
from .run.timing import call_count, expected_time


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse(DistillOptions, "python -m trainer.distill", arguments)
    return run(lambda: distill(options))


def distill(options: DistillOptions) -> Distillation:
    """Fit a solver as the options say and write its file. Raises TrainerError with what to do.

    Among the processes of a cluster the first one prints, keeps the state and writes the file and the report.
    """
    with Cluster.from_environment() as cluster:
        return _distill(options, cluster)


@dataclass(frozen=True)
class Begun:
    """What a run, and the one that goes on with it, keep beside the state of the fit."""

    untrained_error: float
    """Of the solver as it was before the fit, on the validation pairs."""
    date: str
    seconds: float = 0.0
    forward: int = 0
    backward: int = 0


@dataclass(frozen=True)
class Errors:
    """Relative endpoint errors of a fit; infinite where the network gave values that are not finite."""

    before: float
    """Of the untrained solver on the test pairs, which chose nothing."""
    after: float
    """Of the fitted one on the same."""
    validation_before: float
    """The same two on the pairs that chose the fitted one."""
    validation_after: float


def _distill(options: DistillOptions, cluster: Cluster) -> Distillation:
    started = time.monotonic()
    solver, pairs = _prepared(options, cluster)
    network = pairs.targets.network
    fit = make_fit(options, solver, network, pairs)
    untrained = copy.deepcopy(solver)
    file = ResumeFile(options.out, {**asdict(options), "fingerprint of the model": pairs.targets.fingerprint})
    begun = _resume(file, fit, network, cluster) if options.resume else None
    if not options.resume and file.path.is_file() and cluster.first:
        print(f"{file.path} is from an interrupted run; this one replaces it; --resume would go on with it")

    validating = pairs.validation_pairs * solver.network_calls
    after_fit = validating + 2 * pairs.test_pairs * solver.network_calls + pairs.expected_test_calls()
    fewest, most = (calls + after_fit + (0 if begun else validating) for calls in fit.expected_calls())
    if cluster.first:
        print(
            f"{options.ckpt}: {options.steps} steps, {solver.network_calls} network calls a sample; "
            f"{options.fitted_by} on {pairs.training_pairs} pairs, {pairs.validation_pairs} to validate, "
            f"{pairs.test_pairs} to test; "
            + call_count(fewest, most)
            + (" left" if begun else "")
            + (f" by {cluster.size} processes" if cluster.size > 1 else "")
            + expected_time(network, (fewest // cluster.size, most // cluster.size), options.batch_size)
        )
    with CallBar(network, most // cluster.size, cluster) as bar:
        device = pairs.targets.draw("validation", 0).noise.device
        reset_peak(device)
        begun = begun or Begun(_validation_error(pairs, solver), _today())
        for line in fit.run():
            _, left = fit.expected_calls()
            left += after_fit
            bar.expect(left // cluster.size)
            bar.line(
                f"iteration {line.iteration:4d}  training error {line.training_error:.5f}  validation error "
                f"{line.validation_error:.5f}  network calls {line.network_calls:,} of about "
                f"{line.network_calls + left:,}"
            )
            seconds = begun.seconds + time.monotonic() - started
            forward, backward = _calls(network, cluster)
            if cluster.first:
                kept = replace(begun, seconds=seconds, forward=forward, backward=backward)
                file.save(fit.state(), asdict(kept))
        errors = _judged(options, pairs, solver, untrained, begun.untrained_error, bar)
    forward, backward = _calls(network, cluster)
    done = Distillation(
        SolverFile(solver, provenance(options, pairs, errors, begun.date), options.out),
        fit.history,
        {"forward": forward, "backward": backward, "total": forward + 2 * backward},
        begun.seconds + time.monotonic() - started,
        peak_bytes(device),
    )
    if cluster.first:
        done.file.write(options.out)
        file.remove()
        print(
            f"endpoint error {errors.before:.5f} before, {errors.after:.5f} after, on {pairs.test_pairs} unseen pairs; "
            f"wrote {options.out}"
        )
        if options.report is not None:
            from .report.report import distillation_report

            distillation_report(options, done, network, pairs)
            print(f"report and pictures are in {options.report}")
    return done


def _judged(
    options: DistillOptions, pairs: Pairs, solver: Solver, untrained: Solver, untrained_error: float, bar: CallBar
) -> Errors:
    """The errors of the fit. A solver that is no better than it was is as it was again; lines say what is not well."""
    validation = _validation_error(pairs, solver)
    network, unit = pairs.targets.network, Latent(deviation(pairs.test, pairs.cluster))
    before = after = error_or_infinity(network, pairs.test, untrained, unit, pairs.cluster)
    if options.loss == "l2" and validation >= untrained_error:
        solver.load_state_dict(untrained.state_dict())
        validation = untrained_error
        bar.line("warning: the fit found nothing better than the untrained solver, which is kept; give more --pairs")
    else:
        after = error_or_infinity(network, pairs.test, solver, unit, pairs.cluster)
        if options.loss == "l2" and after >= before:
            bar.line(
                f"warning: on {pairs.test_pairs} unseen pairs the fitted solver has {after:.5f}, the untrained one "
                f"{before:.5f}: give more --pairs"
            )
    if after > 1:
        bar.line(
            f"warning: the endpoint error {after:.5f} is above 1, which is worse than a constant guess: give more "
            "--steps, or check the model and its schedule"
        )
    return Errors(before, after, untrained_error, validation)


def _validation_error(pairs: Pairs, solver: Solver) -> float:
    return endpoint_error(pairs.targets.network, pairs.validation, solver, Latent(pairs.deviation), pairs.cluster)


def _prepared(options: DistillOptions, cluster: Cluster) -> tuple[Solver, Pairs]:
    """The untrained solver and the pairs to come, after a look at the folders and at whether all processes agree."""
    network = Network(load_checkpoint(options.ckpt, options, options.cache or default_cache()))
    if cluster.first:
        writable_folder(f"--out {options.out}", options.out.parent)
        if options.report is not None:
            writable_folder("--report", options.report)
            if importlib.util.find_spec("matplotlib") is None:
                raise TrainerError(
                    "--report draws pictures with matplotlib, which is not installed: pip install matplotlib"
                )
    cache = writable_folder("--cache", options.cache or default_cache()) if options.keep_targets else None
    teacher = Teacher.parse(options.teacher)
    own = {"resume": options.resume, "fingerprint": network.checkpoint.fingerprint}
    targets = Targets(network, teacher, options.seed, options.batch_size, cache, cluster)
    told = comparable(asdict(options)) | own
    cluster.agree({name: str(value) for name, value in told.items()})
    solver = new_solver(options, network)
    parameters = sum(number.numel() for number in solver.numbers())
    return solver, Pairs(
        targets, *options.pair_counts(parameters, math.prod(network.checkpoint.shape)), options.report_pairs
    )


def _calls(network: Network, cluster: Cluster) -> tuple[int, int]:
    """(forward, backward) of all processes."""
    return round(cluster.total(network.forward)), round(cluster.total(network.backward))


def provenance(options: DistillOptions, pairs: Pairs, errors: Errors, date: str) -> Provenance:
    """For what and how a file was made; the same run has the same."""
    checkpoint = pairs.targets.network.checkpoint
    own: Provenance = {
        "model": Path(options.ckpt).name,
        "model_family": checkpoint.model_family,
        "fingerprint": pairs.targets.fingerprint,
        "prediction_type": checkpoint.prediction_type,
        "shift": checkpoint.shift,
        "guidance": checkpoint.guidance,
        "shape": list(checkpoint.shape),
        "teacher": options.teacher,
        "method": options.fitted_by,
        "pairs": pairs.training_pairs,
        "validation_pairs": pairs.validation_pairs,
        "loss": options.loss,
        "endpoint_error_before": _finite(errors.before),
        "endpoint_error_after": _finite(errors.after),
        "endpoint_error_pairs": pairs.test_pairs,
        "validation_error_before": _finite(errors.validation_before),
        "validation_error_after": _finite(errors.validation_after),
        "seed": options.seed,
        "versions": {
            "dyweight": dyweight.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "date": date,
    }
    return cast(Provenance, {**own, **checkpoint.made_for})


def _finite(error: float) -> float | None:
    return error if math.isfinite(error) else None


def _today() -> str:
    """The date for the file; SOURCE_DATE_EPOCH, in seconds, where a build must come out the same on another day."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.fromtimestamp(float(epoch) if epoch else time.time(), datetime.timezone.utc)
    return now.date().isoformat()


def _resume(file: ResumeFile, fit: Fit, network: Network, cluster: Cluster) -> Begun | None:
    kept = cluster.from_first(file.load)
    if kept is None:
        if cluster.first:
            print("nothing to resume; starting from the beginning")
        return None
    state, begun = kept[0], Begun(**kept[1])
    fit.restore(state)
    if cluster.first:
        network.forward, network.backward = begun.forward, begun.backward
        print(f"resuming after {len(fit.history)} lines")
    return begun


if __name__ == "__main__":
    sys.exit(main())
