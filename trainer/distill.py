"""`python -m trainer.distill`: fit a few-step solver to a teacher's endpoints and write its coefficient file."""

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
from dyweight import Provenance, SolverFile

from .checkpoints.load import load_checkpoint
from .fit.distillation import Distillation
from .fitting import Fitting
from .options.distill import DistillOptions
from .options.parse import parse
from .pairs.targets import default_cache
from .run.cluster import Cluster
from .run.command import CallBar, run, writable_folder
from .run.errors import TrainerError
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


@dataclass(frozen=True)
class Begun:
    """What a run, and the one that goes on with it, keep beside the state of the fit."""

    untrained_error: float
    """Of the solver as it was before the fit, on the validation pairs; nan where there are none."""
    date: str
    seconds: float = 0.0
    forward: int = 0
    backward: int = 0


def _distill(options: DistillOptions, cluster: Cluster) -> Distillation:
    started = time.monotonic()
    fitting = _prepared(options, cluster)
    options = fitting.options
    network, most = fitting.network, fitting.expected_calls()
    if cluster.first:
        print(
            f"{options.ckpt}: {options.steps} steps, {_calls_of_a_sample(options, fitting)}; "
            f"{_manner(options)}; {call_count(most)}"
            + (f" by {cluster.size} processes" if cluster.size > 1 else "")
            + expected_time(network, most // cluster.size, options.batch_size)
        )
    with CallBar(network, most // cluster.size, cluster) as bar:
        fitting.begin()
        fit, pairs = fitting.fit, fitting.pairs
        file = ResumeFile(options.out, {**asdict(options), "fingerprint of the model": pairs.targets.fingerprint})
        if not options.resume and file.path.is_file() and cluster.first:
            bar.line(f"{file.path} is from an interrupted run; this one replaces it; --resume would go on with it")
        begun = _resume(file, fitting, bar) if options.resume else None
        device = pairs.targets.draw("test", 0).noise.device
        reset_peak(device)
        for line in fitting.run():
            begun = begun or Begun(fitting.validation[0], _today())
            left = fitting.expected_calls()
            bar.expect(left // cluster.size)
            bar.line(
                f"iteration {line.iteration:4d}  training error {line.training_error:.5f}"
                + ("" if math.isnan(line.validation_error) else f"  validation error {line.validation_error:.5f}")
                + f"  network calls {line.network_calls:,} of at most {line.network_calls + left:,}"
            )
            seconds = begun.seconds + time.monotonic() - started
            forward, backward = _calls(network, cluster)
            state = fit.state()
            if cluster.first:
                file.save(state, asdict(replace(begun, seconds=seconds, forward=forward, backward=backward)))
        for warning in fitting.judge():
            bar.line(warning)
    begun = begun or Begun(fitting.validation[0], _today())
    forward, backward = _calls(network, cluster)
    done = Distillation(
        SolverFile(fitting.solver, provenance(fitting, begun.date), options.out),
        fit.history,
        {"forward": forward, "backward": backward, "total": forward + 2 * backward},
        begun.seconds + time.monotonic() - started,
        peak_bytes(device),
    )
    if cluster.first:
        done.file.write(options.out)
        file.remove()
        print(
            f"endpoint error {fitting.before:.5f} before, {fitting.after:.5f} after, on {pairs.test_pairs} unseen "
            f"pairs; wrote {options.out}"
        )
        if fitting.solver.guided:
            steps = ", ".join(str(row + 1) for row in fitting.solver.guided)
            print(f"{fitting.solver.evaluations} evaluations: the unconditional prediction too in step {steps}")
        if options.report is not None:
            from .report.report import distillation_report

            distillation_report(options, done, network, pairs)
            print(f"report and pictures are in {options.report}")
    return done


def _calls_of_a_sample(options: DistillOptions, fitting: Fitting) -> str:
    calls = fitting.solver.network_calls
    if not options.learn_guidance:
        return f"{calls} network calls a sample"
    guided = options.unconditional_calls or len(fitting.solver.guided)
    return f"{guided} of them with the unconditional prediction too, {calls + guided} evaluations a sample"


def _manner(options: DistillOptions) -> str:
    if options.fitted_by == "adam":
        pairs = f"{options.pairs or 10_000} pairs, {options.judging_pairs} to validate, {options.report_pairs} to test"
        return f"adam on {pairs}"
    effort = f", {options.effort}" if options.calls is None else ""
    return f"gauss-newton{effort}, {options.judging_pairs} pairs to test"


def _prepared(options: DistillOptions, cluster: Cluster) -> Fitting:
    """The fit to come, after a look at the folders."""
    network = Network(load_checkpoint(options.ckpt, options, options.cache or default_cache()), options.per_call)
    if cluster.first:
        writable_folder(f"--out {options.out}", options.out.parent)
        if options.report is not None:
            writable_folder("--report", options.report)
            if importlib.util.find_spec("matplotlib") is None:
                raise TrainerError(
                    "--report draws pictures with matplotlib, which is not installed: pip install matplotlib"
                )
    cache = writable_folder("--cache", options.cache or default_cache()) if options.keep_targets else None
    return Fitting.of(options, network, cluster, cache, print if cluster.first else str)


def _calls(network: Network, cluster: Cluster) -> tuple[int, int]:
    """(forward, backward) of all processes."""
    return round(cluster.total(network.forward)), round(cluster.total(network.backward))


def provenance(fitting: Fitting, date: str) -> Provenance:
    """For what and how a file was made; the same run has the same."""
    options, pairs, checkpoint = fitting.options, fitting.pairs, fitting.network.checkpoint
    effort: Provenance = {"effort": options.effort} if options.fitted_by == "gauss-newton" and not options.calls else {}
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
        "fingerprint": pairs.targets.fingerprint,
        "prediction_type": checkpoint.prediction_type,
        "shift": checkpoint.shift,
        "guidance": checkpoint.guidance,
        "shape": list(checkpoint.shape),
        "teacher": str(pairs.targets.teacher),
        "method": options.fitted_by,
        **effort,
        "pairs": pairs.training_pairs,
        "loss": options.loss,
        "endpoint_error_before": _finite(fitting.before),
        "endpoint_error_after": _finite(fitting.after),
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


def _finite(error: float) -> float | None:
    return error if math.isfinite(error) else None


def _today() -> str:
    """The date for the file; SOURCE_DATE_EPOCH, in seconds, where a build must come out the same on another day."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.fromtimestamp(float(epoch) if epoch else time.time(), datetime.timezone.utc)
    return now.date().isoformat()


def _resume(file: ResumeFile, fitting: Fitting, bar: CallBar) -> Begun | None:
    cluster, network = fitting.cluster, fitting.network
    kept = cluster.from_first(file.load)
    if kept is None:
        bar.line("nothing to resume; starting from the beginning")
        return None
    state, begun = kept[0], Begun(**kept[1])
    fitting.fit.restore(state)
    fitting.validation = (begun.untrained_error, math.nan)
    if cluster.first:
        network.forward, network.backward = begun.forward, begun.backward
    left = call_count(fitting.expected_calls())
    bar.line(f"resuming after {len(fitting.fit.history)} lines; {left} left")
    return begun


if __name__ == "__main__":
    sys.exit(main())
