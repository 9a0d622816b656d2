"""`python -m trainer.distill`: fit a few-step solver to a teacher's endpoints and write its coefficient file."""

import importlib.util
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch

from dyweight import Solver, SolverFile

from .checkpoints.load import load_checkpoint
from .distillation.fitted_file import provenance, today, together
from .distillation.fitting_set import FittingSet
from .distillation.result import Distillation
from .fit import Progress
from .fit.size import probing_bytes
from .options.distill import DistillOptions
from .options.parse import parse
from .options.workflow import WorkflowOptions
from .pairs.pairs import Pairs
from .pairs.targets import default_cache
from .run.cluster import Cluster
from .run.command import CallBar, run, writable_folder
from .run.errors import TrainerError
from .run.memory import peak_bytes, reset_peak
from .run.network import Network
from .run.resume import ResumeFile
from .run.timing import call_count, expected_time
from .workflow.graph import read, with_fit
from .workflow.server import run as run_workflow
from .workflow.server import server

MUCH_MEMORY = 100_000_000
"""Bytes from which on they are told before the first call."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status. With --workflow it is that of `WorkflowOptions`."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if any(one.partition("=")[0] == "--workflow" for one in given):
        options_of_workflow = parse(WorkflowOptions, "python -m trainer.distill", given)
        return run(lambda: fit_workflow(options_of_workflow))
    options = parse(DistillOptions, "python -m trainer.distill", given)
    return run(lambda: distill(options))


def fit_workflow(options: WorkflowOptions) -> None:
    """Put a fit in the place of a workflow's sampler, and run it on a ComfyUI server. Raises TrainerError."""
    graph, node = with_fit(read(options.workflow), options)
    told = [""]

    def tell(lines: str) -> None:
        told.append(lines)
        print(lines, flush=True)

    with server(options.server, options.comfyui) as address:
        for text in run_workflow(address, graph, node, tell):
            if text != told[-1]:
                print(text)


def distill(options: DistillOptions) -> Distillation:
    """Fit a solver as the options say and write its file. Raises TrainerError with what to do.

    Among the processes of a cluster the first one prints, keeps the state and writes the file and the report.
    """
    with Cluster.from_environment() as cluster:
        return _distill(options, cluster)


@dataclass(frozen=True)
class Begun:
    """What a run, and the one that goes on with it, keep beside the state of the fits."""

    date: str
    seconds: float = 0.0
    forward: int = 0
    backward: int = 0


def _distill(options: DistillOptions, cluster: Cluster) -> Distillation:
    started = time.monotonic()
    fits, earlier = _prepared(options, cluster)
    options = fits.options
    network, most = fits.network, fits.expected_calls()
    if cluster.first:
        print(_announced(options, fits, most, cluster.size))
    with CallBar(network, most // cluster.size, cluster) as bar:
        fits.begin()
        pairs = fits.pairs
        file = ResumeFile(options.out, {**asdict(options), "fingerprint of the model": pairs.targets.fingerprint})
        begun = _resume(file, fits, bar) or Begun(today())
        device = _device(pairs, cluster, bar)
        reset_peak(device)

        def keep() -> None:
            seconds = begun.seconds + time.monotonic() - started
            forward, backward = _calls(network, cluster)
            tensors, values = fits.state()
            if cluster.first:
                now = replace(begun, seconds=seconds, forward=forward, backward=backward)
                file.save(tensors, {"run": asdict(now), "fits": values})

        for fitting in fits.unfinished():
            if len(fits.fittings) > 1:
                bar.line(f"{fitting.steps} steps")
                keep()
            for line in fitting.run():
                left = fits.expected_calls()
                bar.expect(left // cluster.size)
                bar.line(_told(line, left))
                keep()
            for warning in fitting.judge():
                bar.line(warning)
            errors = f"{fitting.before:.5f} before, {fitting.after:.5f} after"
            bar.line(f"endpoint error {errors}, on {pairs.test_pairs} unseen pairs{_guided_steps(fitting.solver)}")
    forward, backward = _calls(network, cluster)
    made = [SolverFile(one.solver, provenance(one, begun.date), options.out) for one in fits.fittings]
    done = Distillation(
        together([*earlier, *made]),
        {fitting.steps: fitting.history for fitting in fits.fittings},
        {"forward": forward, "backward": backward, "total": forward + 2 * backward},
        begun.seconds + time.monotonic() - started,
        peak_bytes(device),
    )
    if cluster.first:
        done.file.write(options.out)
        file.remove()
        print(f"wrote {options.out}")
        if options.report is not None:
            from .report.report import distillation_report

            distillation_report(options, done, network, pairs)
            print(f"report and pictures are in {options.report}")
    return done


def _device(pairs: Pairs, cluster: Cluster, bar: CallBar) -> torch.device:
    """Where this process samples; that others do so too is told."""
    device = pairs.targets.draw("test", 0).noise.device
    if shared := cluster.sharing(device):
        bar.line(shared)
    return device


def _announced(options: DistillOptions, fits: FittingSet, most: int, processes: int) -> str:
    calls = [str(fitting.solver.network_calls) for fitting in fits.fittings]
    return (
        f"{options.ckpt}: {', '.join(map(str, options.members))} steps, "
        f"{_calls_of_a_sample(options, fits) or ', '.join(calls) + ' network calls a sample'}; "
        f"{_manner(options)}; {call_count(most)}"
        + (f" by {processes} processes" if processes > 1 else "")
        + expected_time(fits.network, most // processes, options.batch_size)
        + ("" if options.fitted_by == "adam" else _memory(options, fits))
    )


def _memory(options: DistillOptions, fits: FittingSet) -> str:
    """Where a batch of latents is large while it is probed."""
    elements = math.prod(fits.network.checkpoint.shape)
    solvers = [fitting.solver for fitting in fits.fittings]
    numbers = [sum(number.numel() for number in solver.numbers()) for solver in solvers]
    most = max(
        probing_bytes(options.batch_size, solver.rows, count, solver.order, elements, bool(solver.guided))
        for solver, count in zip(solvers, numbers, strict=True)
    )
    return f"; up to {most / 1e9:.1f} GB of main memory for a moment" if most >= MUCH_MEMORY else ""


def _calls_of_a_sample(options: DistillOptions, fits: FittingSet) -> str:
    """Where guidance is learned."""
    if not options.learn_guidance:
        return ""
    solver = fits.fittings[0].solver
    guided = options.unconditional_calls or len(solver.guided)
    return (
        f"{guided} of them with the unconditional prediction too, {solver.network_calls + guided} evaluations a sample"
    )


def _guided_steps(solver: Solver) -> str:
    asked = ", ".join(str(row + 1) for row in solver.guided)
    return f"; {solver.evaluations} evaluations: the unconditional prediction too in step {asked}" if asked else ""


def _told(line: Progress, left: int) -> str:
    return (
        f"iteration {line.iteration:4d}  training error {line.training_error:.5f}"
        + ("" if math.isnan(line.validation_error) else f"  validation error {line.validation_error:.5f}")
        + f"  network calls {line.network_calls:,} of at most {line.network_calls + left:,}"
    )


def _manner(options: DistillOptions) -> str:
    if options.fitted_by == "adam":
        pairs = f"{options.pairs or 10_000} pairs, {options.judging_pairs} to validate, {options.report_pairs} to test"
        return f"adam on {pairs}"
    effort = f", {options.effort}" if options.calls is None else ""
    return f"gauss-newton{effort}, {options.judging_pairs} pairs to test"


def _prepared(options: DistillOptions, cluster: Cluster) -> tuple[FittingSet, list[SolverFile]]:
    """The fits to come, after a look at the folders, and what the file of `--add` keeps."""
    network = Network(load_checkpoint(options.ckpt, options, options.cache or default_cache()), options.per_call)
    there = SolverFile.read(options.out) if options.add else None
    if cluster.first:
        writable_folder(f"--out {options.out}", options.out.parent)
        if options.report is not None:
            writable_folder("--report", options.report)
            if importlib.util.find_spec("matplotlib") is None:
                raise TrainerError(
                    "--report draws pictures with matplotlib, which is not installed: pip install matplotlib"
                )
    cache = writable_folder("--cache", options.cache or default_cache()) if options.keep_targets else None
    kept = [there.member(steps) for steps in there.solvers.steps if steps not in options.add] if there else []
    return FittingSet.of(options, network, cluster, cache, kept, print if cluster.first else str), kept


def _calls(network: Network, cluster: Cluster) -> tuple[int, int]:
    """(forward, backward) of all processes."""
    return round(cluster.total(network.forward)), round(cluster.total(network.backward))


def _resume(file: ResumeFile, fits: FittingSet, bar: CallBar) -> Begun | None:
    if not fits.options.resume:
        if file.path.is_file() and fits.cluster.first:
            bar.line(f"{file.path} is from an interrupted run; this one replaces it; --resume would go on with it")
        return None
    kept = fits.cluster.from_first(file.load)
    if kept is None:
        bar.line("nothing to resume; starting from the beginning")
        return None
    tensors, values = kept
    begun = Begun(**values["run"])
    fits.restore(tensors, values["fits"])
    if fits.cluster.first:
        fits.network.forward, fits.network.backward = begun.forward, begun.backward
    left, lines = call_count(fits.expected_calls()), len(fits.current.fit.history)
    of = f" of {fits.current.steps} steps" if len(fits.fittings) > 1 else ""
    bar.line(f"resuming after {lines} lines{of}; {left} left")
    return begun


if __name__ == "__main__":
    sys.exit(main())
