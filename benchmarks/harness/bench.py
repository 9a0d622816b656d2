"""A model with unseen samples, and the trainer to fit solvers for it."""

import contextlib
import dataclasses
import io
import runpy
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoints.comfy.installation import find_comfyui
from trainer.checkpoints.load import load_checkpoint
from trainer.checkpoints.protocol import FullCheckpoint
from trainer.compare.endpoint_error import Sampler, endpoint_error, errors_at_equal_calls
from trainer.compare.handcrafted import rivals
from trainer.distill import distill
from trainer.fit.distillation import Distillation
from trainer.losses.features import Latent
from trainer.options.distill import DistillOptions
from trainer.pairs.pairs import deviation
from trainer.pairs.targets import Block, Targets, default_cache
from trainer.pairs.teacher import Teacher
from trainer.run.errors import CheckpointError
from trainer.run.network import Network

ROOT = Path(__file__).parents[2]
STANDINS = ROOT / "tools" / "standins"
TINY_FLUX = ROOT / "tools" / "models" / "tiny-flux.safetensors"
FLUX = "tiny-flux"
MODELS: dict[str, dict[str, Any]] = {
    "digits": {"ckpt": "digits"},
    "shapes": {"ckpt": "shapes"},
    "gmm": {"ckpt": "gmm"},
    FLUX: {
        "ckpt": str(TINY_FLUX),
        "conditioning": TINY_FLUX.with_name("tiny-flux-conditions.safetensors"),
        "width": 64,
    },
}
"""Name of a model -> the trainer's options for it; any other name is a `--ckpt`."""
TEACHER, SAMPLES, BATCH = "ipndm:100", 1000, 50
"""The teacher that endpoints are compared with, the number of unseen samples, and of samples in a network call."""
QUICK_SAMPLES = 50


class Bench:
    """A model with unseen samples, and the trainer to fit solvers for it."""

    def __init__(
        self, model: str, quick: bool = False, teacher: str = TEACHER, samples: int = SAMPLES, **named: Any
    ) -> None:
        """named: more of the trainer's options for a model, such as width or guidance."""
        if model == FLUX:
            use_stand_ins()
        self.model, self.quick = model, quick
        self._named = {**MODELS.get(model, {"ckpt": model}), **named}
        self._teacher, self._samples = teacher, min(samples, QUICK_SAMPLES) if quick else samples

    @cached_property
    def network(self) -> Network:
        options = DistillOptions(**self._named, steps=(1,), out=Path("unused.safetensors"))
        return Network(load_checkpoint(options.ckpt, options, default_cache()))

    @property
    def checkpoint(self) -> FullCheckpoint:
        return self.network.checkpoint

    @cached_property
    def blocks(self) -> list[Block]:
        """Pairs of noise and the teacher's endpoint that no fit draws."""
        batch = min(BATCH, self._samples)
        targets = Targets(self.network, Teacher.parse(self._teacher), 1, batch, default_cache())
        return [targets.block("evaluation", index) for index in range(targets.block_count(self._samples))]

    @cached_property
    def features(self) -> Latent:
        return Latent(deviation(self.blocks))

    def error(self, sampler: Sampler) -> float:
        """Relative endpoint error on the unseen samples."""
        with torch.no_grad():
            return endpoint_error(self.network, self.blocks, sampler, self.features)

    def handcrafted_errors(self, calls: int, names: Sequence[str] | None = None) -> dict[str, float]:
        """The errors of the model's rivals, by default the handcrafted solvers at every order, best first.

        calls: the number of network calls that each makes.
        """
        return errors_at_equal_calls(self.network, self.blocks, rivals(self.network, calls, names))

    def fit(self, steps: int | Sequence[int], seed: int, **options: Any) -> Distillation:
        """One distillation, of a solver or a set, with these options, else the defaults; endpoints are kept."""
        silence = io.StringIO()
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(silence),
            contextlib.redirect_stderr(silence),
        ):
            given = {
                "steps": (steps,) if isinstance(steps, int) else tuple(steps),
                "seed": seed,
                "cache": default_cache(),
                "out": Path(folder) / "solver.safetensors",
            }
            made = DistillOptions(**{**self._named, **given, **options})
            return distill(dataclasses.replace(made, recompute=False) if made.fitted_by == "adam" else made)


def use_stand_ins() -> None:
    """Make ComfyUI importable where packages that it does not use here are not installed."""
    runpy.run_path(str(STANDINS / "sitecustomize.py"))


def without_flux(models: Sequence[str]) -> list[str]:
    """The models that can run; a message says so where the FLUX can't for want of a ComfyUI."""
    try:
        if FLUX in models:
            find_comfyui(None)
        return list(models)
    except CheckpointError as error:
        print(f"\n{FLUX} is left out: {error}")
        return [model for model in models if model != FLUX]


def seconds_by_turns(
    runs: Mapping[str, Callable[[], object]], repeats: int, device: torch.device | None = None
) -> dict[str, list[float]]:
    """Seconds of each run. They take turns, so that a busy machine slows all alike; the first three do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 3):
        for name, run in runs.items():
            synchronize(device)
            began = time.perf_counter()
            run()
            synchronize(device)
            if turn >= 3:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def synchronize(device: torch.device | None) -> None:
    """Wait until an accelerator has finished."""
    if device is not None and device.type != "cpu":
        getattr(torch, device.type).synchronize()
