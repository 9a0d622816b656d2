"""What the studies share: options, the models they run on, fits with the trainer, tables and files."""

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dyweight.files import write_whole
from trainer.checkpoints.load import load_checkpoint
from trainer.checkpoints.protocol import Checkpoint
from trainer.compare.endpoint_error import Sampler, endpoint_error, handcrafted
from trainer.distill import distill
from trainer.losses.features import Latent
from trainer.options.distill import DistillOptions
from trainer.pairs.pairs import deviation
from trainer.pairs.targets import Block, Targets, default_cache
from trainer.pairs.teacher import Teacher
from trainer.report.report import Distillation
from trainer.run.network import Network

ROOT = Path(__file__).parents[2]
TINY_FLUX = ROOT / "tools/models/tiny-flux.safetensors"
MODELS: dict[str, dict[str, Any]] = {
    "digits": {"ckpt": "digits"},
    "shapes": {"ckpt": "shapes"},
    "gmm": {"ckpt": "gmm"},
    "tiny-flux": {
        "ckpt": str(TINY_FLUX),
        "conditioning": TINY_FLUX.with_name("tiny-flux-conditions.safetensors"),
        "width": 64,
    },
}
"""Options of the trainer that name a model; any other name is taken as `--ckpt` takes it."""
TEACHER, SAMPLES, BATCH = "ipndm:100", 1000, 50
"""What endpoints are judged by, and on how many unseen samples."""
QUICK_SAMPLES = 50


@dataclass(frozen=True)
class Options:
    """What every study takes."""

    quick: bool
    seeds: tuple[int, ...]
    out: Path | None
    models: tuple[str, ...] = ()


def parse(
    study: str,
    description: str | None,
    arguments: Sequence[str] | None,
    models: Sequence[str] = (),
    quick_models: Sequence[str] = (),
    seeds: int = 3,
) -> Options:
    """The options of a study's command line.

    models: the default ones, none where the study has no model. quick_models: the default ones of `--quick`.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {study}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one seed, little data: that it runs, not what it finds")
    parser.add_argument("--seeds", type=int, nargs="+", help=f"by default 0 to {seeds - 1}, with --quick 0")
    parser.add_argument("--out", type=Path, help="folder for the figure and the numbers")
    if models:
        parser.add_argument("--models", nargs="+", help=f"by default {' '.join(models)}")
    given = parser.parse_args(arguments)
    chosen = given.seeds or ([0] if given.quick else range(seeds))
    default = quick_models if given.quick and quick_models else models
    return Options(given.quick, tuple(chosen), given.out, tuple(getattr(given, "models", None) or default))


class Bench:
    """A model with unseen samples, and the trainer to fit solvers for it."""

    def __init__(
        self, model: str, quick: bool = False, teacher: str = TEACHER, samples: int = SAMPLES, **named: Any
    ) -> None:
        """named: more options of the trainer that say how the model is used, as width or guidance."""
        self.model, self.quick = model, quick
        self._named = {**MODELS.get(model, {"ckpt": model}), **named}
        self._teacher, self._samples = teacher, QUICK_SAMPLES if quick else samples

    @cached_property
    def network(self) -> Network:
        # Options of a distillation are those of a checkpoint too.
        options = DistillOptions(**self._named, steps=1, out=Path("unused.safetensors"))
        return Network(load_checkpoint(options.ckpt, options, default_cache()))

    @property
    def checkpoint(self) -> Checkpoint:
        return self.network.checkpoint

    @cached_property
    def blocks(self) -> list[Block]:
        """Pairs of noise and fine endpoint that no fit draws."""
        targets = Targets(self.network, Teacher.parse(self._teacher), 1, BATCH, default_cache())
        return [targets.block("evaluation", index) for index in range(targets.block_count(self._samples))]

    @cached_property
    def features(self) -> Latent:
        return Latent(deviation(self.blocks))

    def error(self, sampler: Sampler) -> float:
        """Relative endpoint error on the unseen samples."""
        with torch.no_grad():
            return endpoint_error(self.network, self.blocks, sampler, self.features)

    def handcrafted_errors(self, calls: int, names: Iterable[str] | None = None) -> dict[str, float]:
        """Of the handcrafted solvers with so many network calls, best first."""
        errors = {name: self.error(plan) for name, plan in handcrafted(self.checkpoint, calls, names).items()}
        return dict(sorted(errors.items(), key=lambda item: item[1]))

    def fit(self, steps: int, seed: int, **options: Any) -> Distillation:
        """One distillation with the trainer's defaults but for these options; the teacher's endpoints are kept."""
        given = {"steps": steps, "seed": seed, "cache": default_cache(), "recompute": False, **options}
        silence = io.StringIO()
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(silence),
            contextlib.redirect_stderr(silence),
        ):
            return distill(DistillOptions(**{**self._named, "out": Path(folder) / "solver.safetensors", **given}))


def spread(values: Sequence[float], digits: int = 5) -> str:
    """`mean (smallest to largest)`."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def significant(values: Sequence[float]) -> str:
    """`mean (smallest to largest)` with three digits that count, for errors that span decades."""
    mean = f"{statistics.mean(values):.3g}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3g} to {max(values):.3g})"


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table in Markdown."""
    print(f"| {' | '.join(header)} |\n|{' --- |' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def write_numbers(out: Path | None, study: str, numbers: Mapping[str, Any]) -> None:
    """`STUDY.json` in the folder, if one is given."""
    if out is not None:
        write_whole(out / f"{study}.json", (json.dumps(numbers, indent=1) + "\n").encode())


def read_numbers(out: Path | None, study: str) -> dict[str, Any]:
    """What an earlier run wrote into the folder; nothing if there is none."""
    file = out / f"{study}.json" if out is not None else None
    numbers: dict[str, Any] = json.loads(file.read_text("utf-8")) if file is not None and file.is_file() else {}
    return numbers


def timed(study: Callable[[], None]) -> None:
    """Run a study and print how long it took, and on what."""
    began = time.monotonic()
    study()
    print(f"{time.monotonic() - began:.0f} s, torch {torch.__version__}, {torch.get_num_threads()} threads")
