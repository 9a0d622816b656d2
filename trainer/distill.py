"""`python -m trainer.distill`: fit a few-step solver to a teacher's endpoints and write its coefficient file."""

import datetime
import math
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch

import dyweight
from dyweight import Provenance, SolverFile

from .checkpoints.load import load_checkpoint
from .fit import Fit
from .fitting import Fitting
from .options.distill import DistillOptions
from .options.parse import parse
from .pairs.pairs import Pairs
from .pairs.targets import default_cache
from .report.report import Distillation, distillation_report
from .run.cluster import Cluster
from .run.command import CallBar, run, writable_folder
from .run.memory import peak_bytes, reset_peak
from .run.network import Network
from .run.resume import ResumeFile
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


def _distill(options: DistillOptions, cluster: Cluster) -> Distillation:
    started = time.monotonic()
    fitting = _prepared(options, cluster)
    network, pairs, fit = fitting.network, fitting.pairs, fitting.fit
    file = ResumeFile(options.out, {**asdict(options), "fingerprint of the model": pairs.targets.fingerprint})
    earlier = _resume(file, fit, network, cluster) if options.resume else {}
    fitting.before = earlier.get("before", math.nan)
    most = fitting.expected_calls()
    if cluster.first:
        print(
            f"{options.ckpt}: {options.steps} steps, {fitting.solver.network_calls} network calls a sample; "
            f"{_manner(options, pairs)}; {call_count(most)}"
            + (" left" if earlier else "")
            + (f" by {cluster.size} processes" if cluster.size > 1 else "")
            + expected_time(network, most // cluster.size, options.batch_size)
        )
    with CallBar(network, most // cluster.size, cluster) as bar:
        device = pairs.targets.draw("validation", 0).noise.device
        reset_peak(device)
        date = earlier.get("date", _today())
        for line in fitting.run():
            left = fitting.expected_calls()
            bar.expect(left // cluster.size)
            bar.line(
                f"iteration {line.iteration:4d}  training error {line.training_error:.5f}"
                + ("" if math.isnan(line.validation_error) else f"  validation error {line.validation_error:.5f}")
                + f"  network calls {line.network_calls:,} of at most {line.network_calls + left:,}"
            )
            seconds = earlier.get("seconds", 0.0) + time.monotonic() - started
            state, calls = fit.state(), _calls(network, cluster)
            if cluster.first:
                file.save(state, {"before": fitting.before, "date": date, "seconds": seconds, **calls})
        told = fitting.judge()
        if told:
            bar.line(told)
    made = provenance(options, network, pairs, fitting.before, fitting.after, date)
    done = Distillation(
        SolverFile(fitting.solver, made, options.out),
        fit.history,
        _calls(network, cluster),
        earlier.get("seconds", 0.0) + time.monotonic() - started,
        peak_bytes(device),
    )
    if cluster.first:
        _write(options, done, network, pairs, file)
    return done


def _manner(options: DistillOptions, pairs: Pairs) -> str:
    if options.method == "adam":
        return f"adam on {pairs.training_pairs} pairs, {pairs.validation_pairs} to validate"
    budget = options.effort if options.calls is None else "a budget of its own"
    return f"gauss-newton, {budget}, {pairs.validation_pairs} pairs to judge"


def _write(options: DistillOptions, done: Distillation, network: Network, pairs: Pairs, file: ResumeFile) -> None:
    done.file.write(options.out)
    file.remove()
    before, after = done.file.provenance["endpoint_error_before"], done.file.provenance["endpoint_error_after"]
    print(f"endpoint error {before:.5f} before, {after:.5f} after; wrote {options.out}")
    if options.report is not None:
        distillation_report(options, done, network, pairs)
        print(f"report and pictures are in {options.report}")


def _prepared(options: DistillOptions, cluster: Cluster) -> Fitting:
    """The fit to come, after a look at the folders and at whether all processes agree."""
    network = Network(load_checkpoint(options.ckpt, options, options.cache or default_cache()))
    if cluster.first:
        writable_folder(f"--out {options.out}", options.out.parent)
        if options.report is not None:
            writable_folder("--report", options.report)
    cache = writable_folder("--cache", options.cache or default_cache()) if options.keep_targets else None
    return Fitting(options, network, cluster, cache)


def _calls(network: Network, cluster: Cluster) -> dict[str, int]:
    """Of all processes."""
    forward, backward = round(cluster.total(network.forward)), round(cluster.total(network.backward))
    return {"forward": forward, "backward": backward, "total": forward + 2 * backward}


def provenance(
    options: DistillOptions, network: Network, pairs: Pairs, before: float, after: float, date: str
) -> Provenance:
    """For what and how a file was made; the same run has the same."""
    checkpoint = network.checkpoint
    own: Provenance = {
        "model": Path(options.ckpt).name,
        "model_family": getattr(checkpoint, "model_family", None),
        "fingerprint": pairs.targets.fingerprint,
        "prediction_type": getattr(checkpoint, "prediction_type", None),
        "shift": getattr(checkpoint, "shift", None),
        "guidance": getattr(checkpoint, "guidance", None),
        "shape": list(checkpoint.shape),
        "teacher": options.teacher_name,
        "method": str(options.method),
        "effort": options.effort if options.method == "gauss-newton" and options.calls is None else None,
        "pairs": pairs.training_pairs,
        "validation_pairs": pairs.validation_pairs,
        "loss": options.loss,
        "endpoint_error_before": before,
        "endpoint_error_after": after,
        "seed": options.seed,
        "versions": {
            "dyweight": dyweight.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "date": date,
    }
    return cast(Provenance, {**own, **getattr(checkpoint, "made_for", {})})


def _today() -> str:
    """The date for the file; SOURCE_DATE_EPOCH, in seconds, where a build must come out the same on another day."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.fromtimestamp(float(epoch) if epoch else time.time(), datetime.timezone.utc)
    return now.date().isoformat()


def _resume(file: ResumeFile, fit: Fit, network: Network, cluster: Cluster) -> dict[str, Any]:
    kept = cluster.from_first(file.load)
    if kept is None:
        if cluster.first:
            print("nothing to resume; starting from the beginning")
        return {}
    state, extra = kept
    fit.restore(state)
    network.forward, network.backward = (extra["forward"], extra["backward"]) if cluster.first else (0, 0)
    if cluster.first:
        print(f"resuming after {len(fit.history)} lines")
    return extra


if __name__ == "__main__":
    sys.exit(main())
