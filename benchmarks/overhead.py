"""What the table costs: time per step of `sample()` against the usual hand-written iPNDM loop, with a free network.

python -m benchmarks.overhead [--device cuda] [--repeats 200] [--steps 20]
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dyweight import DyWeight, Solver, load_solver, sample, save_solver, schedules

LATENT = (1, 16, 128, 128)
ORDER = 3
ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12))
LIMIT = 1.1

Denoise = Callable[[Tensor, Tensor], Tensor]


def ipndm(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """iPNDM of order 3 as sampler packs write it."""
    batch = x.new_ones(len(x))
    history: list[Tensor] = []
    for i in range(len(sigmas) - 1):
        sigma, step = sigmas[i], sigmas[i + 1] - sigmas[i]
        slope = (x - denoise(x, sigma * batch)) / sigma
        history = [slope, *history][:ORDER]
        if len(history) == 1:
            x = x + step * slope
        elif len(history) == 2:
            c0, c1 = ADAMS_BASHFORTH[1]
            x = x + step * (c0 * history[0] + c1 * history[1])
        else:
            c0, c1, c2 = ADAMS_BASHFORTH[2]
            x = x + step * (c0 * history[0] + c1 * history[1] + c2 * history[2])
    return x


def frozen_solver(steps: int) -> Solver:
    """An untrained solver, which is iPNDM, as a user has it: read from a file, without gradients."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "solver.safetensors"
        save_solver(DyWeight(schedules.flow(steps), ORDER), path, {})
        return load_solver(path)


def interleaved(runs: dict[str, Callable[[], Tensor]], repeats: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each run; they take turns, so a busy machine slows all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 3):
        for name, run in runs.items():
            synchronize(device)
            began = time.perf_counter()
            run()
            synchronize(device)
            if turn >= 3:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


@torch.inference_mode()
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args(arguments)

    solver = frozen_solver(options.steps)
    noise, clean = (torch.randn(LATENT, device=options.device) for _ in range(2))
    plan, sigmas = solver.plan(), solver.sigmas.to(torch.float32).to(options.device)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return clean

    torch.testing.assert_close(sample(denoise, noise, plan), ipndm(denoise, noise, sigmas), rtol=1e-4, atol=1e-4)
    hand = "hand-written iPNDM"
    seconds = interleaved(
        {
            hand: lambda: ipndm(denoise, noise, sigmas),
            "sample(), plan made before": lambda: sample(denoise, noise, plan),
            "sample(), plan made each time": lambda: sample(denoise, noise, solver.plan()),
        },
        options.repeats,
        options.device,
    )
    shape = "x".join(map(str, LATENT))
    print(f"{shape} on {options.device}, {options.steps} steps of order {ORDER}, median of {options.repeats}")
    for name, taken in seconds.items():
        ratio = taken / seconds[hand]
        verdict = (
            "" if name == hand else f"   {ratio:.2f} of it: {'pass' if ratio <= LIMIT else 'fail'} (at most {LIMIT})"
        )
        print(f"{name:30s} {taken / options.steps * 1e6:8.1f} us a step{verdict}")
    return int(max(seconds.values()) > LIMIT * seconds[hand])


if __name__ == "__main__":
    sys.exit(main())
