"""The cost of the table: time per step of `sample()` and of a hand-written iPNDM loop, with a network that is free."""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dyweight import DyWeight, Solver, SolverFile, sample, save_solver, schedules
from dyweight.adams import EQUAL_STEP_WEIGHTS
from dyweight.sampling import Denoise

from ..harness.bench import seconds_by_turns
from ..harness.study import Numbers, Options, Study, Tables, table

LATENT = (1, 16, 128, 128)
ORDER = 3
HAND = "hand-written iPNDM"
LIMIT = 1.1
"""Limit of a step's time relative to the hand-written loop's."""


def ipndm(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """iPNDM of order 3 as sampler packs implement it."""
    batch = x.new_ones(len(x))
    history: list[Tensor] = []
    for i in range(len(sigmas) - 1):
        sigma, step = sigmas[i], sigmas[i + 1] - sigmas[i]
        slope = (x - denoise(x, sigma * batch)) / sigma
        history = [slope, *history][:ORDER]
        if len(history) == 1:
            x = x + step * slope
        elif len(history) == 2:
            c0, c1 = EQUAL_STEP_WEIGHTS[2]
            x = x + step * (c0 * history[0] + c1 * history[1])
        else:
            c0, c1, c2 = EQUAL_STEP_WEIGHTS[3]
            x = x + step * (c0 * history[0] + c1 * history[1] + c2 * history[2])
    return x


def frozen_solver(steps: int) -> Solver:
    """An untrained solver, which is iPNDM, read from a file as by a user, without gradients."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "solver.safetensors"
        save_solver(DyWeight(schedules.flow(steps), ORDER), path, {})
        return SolverFile.read(path).solver


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20)


@torch.inference_mode()
def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Device -> steps, and the median seconds of each way to sample."""
    device, steps = options.more.device, options.more.steps
    solver = frozen_solver(steps)
    noise, clean = (torch.randn(LATENT, device=device) for _ in range(2))
    plan, sigmas = solver.plan(), solver.sigmas.to(torch.float32).to(device)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return clean

    torch.testing.assert_close(sample(denoise, noise, plan), ipndm(denoise, noise, sigmas), rtol=1e-4, atol=1e-4)
    runs: dict[str, Callable[[], object]] = {
        HAND: lambda: ipndm(denoise, noise, sigmas),
        "sample(), plan made before": lambda: sample(denoise, noise, plan),
        "sample(), plan made each time": lambda: sample(denoise, noise, solver.plan()),
    }
    taken = seconds_by_turns(runs, 2 if options.quick else options.more.repeats, device)
    yield f"{device}", {"steps": steps, "seconds": {name: statistics.median(all_) for name, all_ in taken.items()}}


def tables(numbers: Numbers) -> Tables:
    """The time of a step, absolute and relative to the hand-written loop's."""
    header = ["", "microseconds a step", f"relative to the hand-written loop (at most {LIMIT})"]
    return {
        device: table(
            header,
            (
                [name, f"{1e6 * seconds / found['steps']:.1f}", f"{seconds / found['seconds'][HAND]:.2f}"]
                for name, seconds in found["seconds"].items()
            ),
        )
        for device, found in numbers.items()
    }


STUDY = Study(
    "overhead",
    __doc__,
    measure,
    tables,
    seeds=0,
    add_options=add_options,
    passes=lambda numbers: all(
        max(s.values()) <= LIMIT * s[HAND] for s in (one["seconds"] for one in numbers.values())
    ),
)
