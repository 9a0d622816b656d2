"""`python -m trainer.evaluate`: a coefficient file against handcrafted solvers at the same number of network calls."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dyweight import SolverFile

from .checkpoints.load import load_checkpoint
from .compare.endpoint_error import Sampler, errors_at_equal_calls, errors_over_calls
from .compare.handcrafted import rivals
from .compare.image_metrics import Metrics
from .compare.pictures_of_samplers import SPLIT, PictureTargets, compared, load_metrics, metrics_table, picture_metrics
from .options.evaluate import EvaluateOptions
from .options.parse import parse
from .pairs.identity import known_as, same_model
from .pairs.targets import Targets, default_cache
from .pairs.teacher import Teacher
from .report.report import draw, error_table, shown_prompts, write_json
from .run.command import CallBar, run, writable_folder
from .run.errors import TrainerError
from .run.memory import peak_bytes, reset_peak
from .run.network import Network

ERROR_SAMPLES = 1000
"""Most samples for endpoint errors where there are image metrics, which take many more."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse(EvaluateOptions, "python -m trainer.evaluate", arguments)
    return run(lambda: evaluate(options))


def evaluate(options: EvaluateOptions) -> dict[str, float]:
    """Endpoint errors by sampler, best first; also prints them and writes report.json and pictures.

    Raises TrainerError with what to do, SolverFileError for a coefficient file that can't be used.
    """
    started = time.monotonic()
    file = _member(SolverFile.read(options.solver), options.steps)
    solver = file.solver
    loaded = load_checkpoint(options.ckpt, options, options.cache or default_cache())
    network = Network(loaded, per_call=2 if solver.guided else 1)
    calls = network.evaluations(solver)
    folder = writable_folder("--out", options.out)
    _check_fits(file, network, options)
    samplers: dict[str, Sampler] = {solver.family: solver, **rivals(network, calls, options.baselines)}
    cache = writable_folder("--cache", options.cache or default_cache())
    drawn = (network, Teacher.parse(options.teacher), options.seed, options.batch, cache)
    targets, shown = Targets(*drawn), PictureTargets(*drawn)
    metrics = load_metrics(options, shown) if options.metrics else None
    count = targets.block_count(min(options.samples, ERROR_SAMPLES) if metrics else options.samples)
    expected = targets.missing("evaluation", count) * targets.teacher_calls
    print(
        f"{count * options.batch} samples; the teacher {options.teacher} needs about {expected:,} network calls first"
    )
    if metrics:
        pictures = shown.block_count(options.samples)
        more = shown.missing(SPLIT, pictures) * shown.teacher_calls
        print(
            f"{pictures * options.batch} more for the image metrics; the teacher needs {more:,} network calls for them"
        )
    with CallBar(network, expected) as bar:
        blocks = [targets.block("evaluation", i) for i in range(count)]
        reset_peak(blocks[0].noise.device)
        errors = errors_at_equal_calls(network, blocks, samplers)
        # The handcrafted solvers' curves are drawn beside a checkpoint's own rivals, too.
        curves = errors_over_calls(
            network, blocks, options.max_calls, options.baselines if network.checkpoint.rivals is None else None
        )
        if metrics:
            names = compared(errors, solver.family, options.baselines)
            image_metrics = _image_metrics(
                bar, shown, options.samples, {name: samplers[name] for name in (solver.family, *names)}, metrics
            )
    content = {
        "endpoint_error": errors,
        "network_calls": {"forward": network.forward, "backward": network.backward, "total": network.total},
        "seconds": time.monotonic() - started,
        "peak_memory_bytes": peak_bytes(blocks[0].noise.device),
        "ckpt": options.ckpt,
        "seed": options.seed,
        "nfe": calls,
        "samples": count * options.batch,
        "teacher": options.teacher,
        "error_over_steps": curves,
        "prompts": shown_prompts(network, blocks[0]),
        "solver": str(options.solver),
        "provenance": file.provenance,
    }
    if metrics:
        content["metrics"] = image_metrics
    write_json(folder, content)
    draw(folder, network, file, blocks, errors, curves, options.ckpt, samplers)
    print(f"{options.ckpt}, {calls} network {network.unit}, {count * options.batch} samples, seed {options.seed}")
    print(error_table(errors, solver.family))
    if metrics:
        print(metrics_table(image_metrics))
    print(f"report and pictures are in {folder}")
    return errors


def _image_metrics(
    bar: CallBar, targets: PictureTargets, samples: int, samplers: Mapping[str, Sampler], metrics: Metrics
) -> dict[str, Any]:
    blocks = targets.block_count(samples)
    calls = blocks * targets.batch * sum(map(targets.network.evaluations, samplers.values()))
    bar.line(f"image metrics of {', '.join(samplers)} take {calls:,} network calls besides the teacher's")
    bar.expect(calls + targets.missing(SPLIT, blocks) * targets.teacher_calls)
    return picture_metrics(targets, blocks, samplers, metrics)


def _member(file: SolverFile, steps: int | None) -> SolverFile:
    try:
        return file.member(steps or 0)
    except ValueError as error:
        raise TrainerError(f"--steps {steps}: {error}") from error


def _check_fits(file: SolverFile, network: Network, options: EvaluateOptions) -> None:
    """An error where the noise would be wrong, a warning where the solver was made for another model or schedule."""
    solver = file.solver
    schedule = network.checkpoint.schedule(solver.steps).to("cpu", torch.float64)
    if not torch.isclose(schedule[0], solver.sigmas[0], rtol=1e-3):
        raise TrainerError(
            f"--solver {options.solver} starts at sigma {float(solver.sigmas[0]):g}, --ckpt {options.ckpt} at "
            f"{float(schedule[0]):g}: the solver was made for another kind of model"
        )
    if not torch.allclose(schedule, solver.sigmas, rtol=1e-3, atol=1e-6):
        print(f"warning: the schedule of {options.solver} is not that of {options.ckpt}; the solver's own is used")
    told = file.provenance.get("sketch") or file.provenance.get("fingerprint")
    here = known_as(network)
    if told and not same_model(file.provenance, here):
        found = here.get("fingerprint") or options.ckpt
        print(f"warning: {options.solver} was made for {file.provenance.get('model')}, not for {found}")


if __name__ == "__main__":
    sys.exit(main())
