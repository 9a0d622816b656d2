"""One solver for the two networks of a model such as Wan 2.2, against ComfyUI's samplers over both.

The networks are tiny ones of ComfyUI's Wan class, `python -m tools.models.train_tiny_wan FOLDER`; where `--networks`
has none they are trained first, which takes some minutes. ComfyUI's samplers run as two KSampler (Advanced), with each
of its schedules.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.models.train_tiny_wan import BOUNDARY, CONDITIONS, HIGH, LOW, SHIFT, write
from trainer.checkpoints.comfy.installation import find_comfyui, start

from ..harness.bench import ROOT, Bench, use_stand_ins
from ..harness.study import Numbers, Options, Study, Tables
from .fit_methods import ON_EVERY_MODEL, of_model, row

NAME, STEPS, SAMPLES, WIDTH = "tiny-wan", 5, 50, 64
QUICK_STEPS, QUICK_SAMPLES, QUICK_TRAINING = 3, 4, 20


def add_options(parser: argparse.ArgumentParser) -> None:
    networks = ROOT / "demo" / NAME
    parser.add_argument("--networks", type=Path, default=networks, help="folder of the two; by default demo/tiny-wan")


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """One part: errors of the handcrafted solvers, and a row a fit."""
    use_stand_ins()
    folder, few = options.more.networks, options.quick
    steps, samples = (QUICK_STEPS, QUICK_SAMPLES) if few else (STEPS, SAMPLES)
    fits = ON_EVERY_MODEL[: 1 if few else None]
    if not (folder / CONDITIONS).is_file():
        start(find_comfyui(None))
        write(folder, **({"steps": QUICK_TRAINING} if few else {}))
    experts: dict[str, Any] = {"ckpt_low": str(folder / LOW), "boundary": BOUNDARY, "conditioning": folder / CONDITIONS}
    sampled: dict[str, Any] = {"width": WIDTH, "frames": 1, "cfg": 1.0, "shift": SHIFT}
    bench = Bench(str(folder / HIGH), few, samples=samples, **experts, **sampled)
    rows = [row(bench, NAME, steps, fit, seed, few) for fit in fits for seed in options.seeds]
    yield NAME, {"samples": samples, "handcrafted": {steps: bench.handcrafted_errors(steps)}, "rows": rows}


def tables(numbers: Numbers) -> Tables:
    """Medians over the seeds."""
    return {model: of_model(found) for model, found in numbers.items()}


STUDY = Study("two-experts", __doc__, measure, tables, add_options=add_options)
