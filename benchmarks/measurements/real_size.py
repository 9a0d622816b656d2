"""What a network call, a picture and a fit cost on this machine at the real size: that of FLUX.1-dev and of SDXL.

The networks are ComfyUI's own classes at full size with seeded random weights: what a call costs does not depend on
them. For each size of picture, ComfyUI's euler and a solver of order 3 sample one picture in turns. Then a draft is
fitted, and its peak memory is set beside that of ComfyUI's euler with as many samples in a call; both peaks are of all
that torch holds on the device, weights included, or on a CPU of the process. Where a whole draft would take minutes, at
FLUX.1-dev's 1024 x 1024, a fit of few calls shows its memory, and the time of a draft follows from its calls.

Each part is kept as soon as it is measured, and --parts chooses among them. All are meant to take less than eight
minutes on an H100.
"""

import argparse
import gc
import importlib
import statistics
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from tools.models.real_size import ARCHITECTURES, Architecture, conditioning, patcher
from trainer import Fitted, fit_solver
from trainer.checkpoints.comfy.canvas import CanvasCheckpoint
from trainer.checkpoints.comfy.installation import find_comfyui
from trainer.fit.budget import calls_of
from trainer.run.errors import TrainerError
from trainer.run.memory import peak_bytes, reset_peak

from ..harness.bench import seconds_by_turns
from ..harness.study import Numbers, Options, Study, Tables, table
from .comfy_overhead import ORDER, beside_euler, pack_in_comfyui

MODELS: dict[str, dict[int, str | None]] = {
    "flux1-dev bf16": {512: "draft", 1024: "few calls"},
    "sdxl fp16": {1024: "draft"},
    "flux1-dev fp8_e4m3fn": {512: None, 1024: None},
    "flux1-dev fp8_e4m3fn_fast": {512: None, 1024: None},
}
"""Architecture and weights -> width and height in pixels -> what is fitted, in the order in which it is measured."""
TEXTS, BATCH = 4, 4
"""Prompts of a fit, and samples in its calls, as by default."""
ONE_TRIAL = {"iterations": 1, "teacher": "euler:4", "validation_pairs": 1}
FITS: dict[str, dict[str, Any]] = {
    "draft": {},
    "few calls": {**ONE_TRIAL, "pairs": BATCH},
    "quick": {**ONE_TRIAL, "pairs": 1, "batch": 1},
}
QUICK = {512: 64, 1024: 128}
PIXELS = 8
"""Of a latent's number, along a side."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--comfyui", type=Path, help="ComfyUI's folder; the default is the trainer's")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each sampler that count")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="by default all; in any order")


def part(model: str, size: int, fits: bool = False) -> str:
    """The name of a part."""
    return f"{model}, {size}{', fit' if fits else ''}"


PARTS = {
    part(model, size, fits): (model, size, kind if fits else None)
    for model, sizes in MODELS.items()
    for size, kind in sizes.items()
    for fits in ((False, True) if kind else (False,))
}
"""Name -> model, size, and what is fitted: None where sampling is measured."""


@torch.inference_mode()
def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Part -> model, size, steps, and of sampling or of the fit: seconds, bytes at the peak, of the fit its calls."""
    given = options.more
    pack = pack_in_comfyui(find_comfyui(given.comfyui))
    for model, names in groupby((name for name in PARTS if name in given.parts), lambda name: PARTS[name][0]):
        made: Made | None = None
        for name in names:
            try:
                made = made or Made(pack, model, given.steps, options.quick)
                yield name, made.part(*PARTS[name][1:], 1 if options.quick else given.repeats)
            except (TrainerError, torch.OutOfMemoryError) as error:
                print(f"\n{name} is left out: {error}", flush=True)
                forget()
        del made
        forget()


class Made:
    """A model with its texts."""

    def __init__(self, pack: ModuleType, model: str, steps: int, quick: bool) -> None:
        """Raises torch.OutOfMemoryError where its weights do not fit. quick: at a tenth of the width."""
        name, weights = model.split()
        self._pack, self._name, self._steps, self._quick = pack, model, steps, quick
        self._told: Architecture = ARCHITECTURES[name]
        self._model = patcher(name, weights, quick)
        self._negative, *self._positive = conditioning(name, 1 + TEXTS, quick)
        self._device: torch.device = self._model.load_device

    def part(self, size: int, kind: str | None, repeats: int) -> dict[str, Any]:
        """One part. kind: what is fitted, None to sample."""
        pixels = QUICK[size] if self._quick else size
        self._latent = {"samples": torch.zeros(1, self._told.network["in_channels"], *[pixels // PIXELS] * 2)}
        found = self.sampling(repeats) if kind is None else self.fit("quick" if self._quick else kind)
        return {"model": self._name, "size": pixels, "steps": self._steps, **found}

    def sampling(self, repeats: int) -> dict[str, Any]:
        """Seconds of a step and bytes at the peak, of euler and of DyWeight, with one picture."""
        noise = torch.randn(self._latent["samples"].shape, generator=torch.Generator().manual_seed(0))
        texts = (self._positive[0], self._negative)
        runs = beside_euler(self._pack, self._model, self._told.scheduler, self._steps, self._told.cfg, texts, noise)
        seconds = seconds_by_turns(runs, repeats, self._device)
        return {
            "seconds": {name: statistics.median(taken) / self._steps for name, taken in seconds.items()},
            "ratio": statistics.median(d / e for d, e in zip(seconds["dyweight"], seconds["euler"], strict=True)),
            "peak": {name: self._peak(run) for name, run in runs.items()},
        }

    def fit(self, kind: str) -> dict[str, Any]:
        """Calls, seconds and bytes at the peak of a fit, and of euler with as many samples in a call."""
        checkpoint = self.checkpoint()
        noise, texts = checkpoint.draw(torch.Generator().manual_seed(0), BATCH)
        euler = partial(checkpoint.sample_with, "euler", checkpoint.scheduler, self._steps, noise, texts)
        sampling = self._peak(euler)
        found: list[Fitted] = []

        def fit() -> None:
            found.append(
                fit_solver(checkpoint, self._steps, effort="draft", order=ORDER, **{"batch": BATCH, **FITS[kind]})
            )

        with torch.inference_mode(False):  # the table of a solver is differentiated
            peak = self._peak(fit)
        told = {"calls": found[0].network_calls, "seconds": found[0].seconds}
        return {"kind": kind, **told, "peak": peak, "sampling": sampling}

    def checkpoint(self) -> CanvasCheckpoint:
        """As Fit Solver has it of its inputs."""
        guider = importlib.import_module("comfy.samplers").CFGGuider(self._model)
        guider.set_conds(self._positive[0], self._negative)
        guider.set_cfg(self._told.cfg)
        return CanvasCheckpoint(self._told.family, guider, self._positive, self._latent, self._told.scheduler)

    def _peak(self, run: Any) -> int | None:
        forget()
        reset_peak(self._device)
        run()
        return peak_bytes(self._device)


def forget() -> None:
    """Free what is no longer used."""
    gc.collect()
    importlib.import_module("comfy.model_management").soft_empty_cache()


def tables(numbers: Numbers) -> Tables:
    """What was measured, of sampling and of fits, and what follows from it for a user."""
    sampled = {part(found["model"], found["size"]): found for found in numbers.values() if "ratio" in found}
    fitted = [found for found in numbers.values() if "calls" in found]
    found = {}
    if sampled:
        found["sampling"] = of_sampling(sampled)
        found["what to expect"] = expected(sampled, fitted)
    if fitted:
        found["fits"] = of_fits(fitted)
    return found


def of_sampling(sampled: Numbers) -> str:
    """A row for each model and size."""
    rows = []
    for found in sampled.values():
        times, peaks = found["seconds"], found["peak"]
        shown = (f"{times[name]:.3f} s, {gigabytes(peaks[name])}" for name in times)
        rows.append([found["model"], square(found), *shown, f"{found['ratio']:.3f}"])
    return table(["model", "picture", "euler: a step, peak", "dyweight: a step, peak", "ratio of times"], rows)


def of_fits(fitted: list[Any]) -> str:
    """A row for each fit."""
    rows = []
    for found in fitted:
        ratio = "" if None in (found["peak"], found["sampling"]) else f"{found['peak'] / found['sampling']:.3f}"
        counted = [f"{found['calls']:,}", f"{found['seconds']:.0f}", f"{found['seconds'] / found['calls']:.3f}"]
        peaks = [gigabytes(found["peak"]), gigabytes(found["sampling"]), ratio]
        rows.append([found["model"], square(found), found["steps"], found["kind"], *counted, *peaks])
    header = ["model", "picture", "steps", "fit", "network calls", "seconds", "seconds a call", "peak"]
    return table([*header, f"peak of euler, {BATCH} at a time", "ratio"], rows)


def expected(sampled: Numbers, fitted: list[Any]) -> str:
    """A row for each model and size; what was not measured as a whole is marked as about so much."""
    rows = []
    for name, found in sampled.items():
        own = next((one for one in fitted if part(one["model"], one["size"]) == name), None)
        each = found["seconds"]["dyweight"] if own is None else own["seconds"] / own["calls"]
        draft, normal = (f"about {minutes(each * calls_of(effort, found['steps']))}" for effort in ("draft", "normal"))
        if own is not None and own["kind"] == "draft":
            draft = minutes(own["seconds"])
        picture = f"{found['steps'] * found['seconds']['dyweight']:.2f} s"
        rows.append([found["model"], square(found), f"{found['seconds']['dyweight']:.3f} s", picture, draft, normal])
    steps = next(iter(sampled.values()))["steps"]
    return table(["model", "picture", "a network call", f"a picture of {steps} steps", "a draft", "a normal fit"], rows)


def square(found: Numbers) -> str:
    """Width and height."""
    return f"{found['size']} x {found['size']}"


def gigabytes(size: int | None) -> str:
    """Bytes, for people."""
    return "unknown" if size is None else f"{size / 1e9:.2f} GB"


def minutes(seconds: float) -> str:
    """Seconds, for people."""
    return f"{seconds / 60:.1f} min"


STUDY = Study("real-size", __doc__, measure, tables, seeds=0, add_options=add_options)
