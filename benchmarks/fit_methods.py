"""Gauss-Newton at its three efforts, and Adam, against the best handcrafted solver at any order.

`python -m benchmarks.fit_methods` prints the table of the README. Every fit begins without cached targets, so its calls
and seconds include the teacher's; errors are measured on unseen samples against a finer teacher.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
from pathlib import Path
from typing import cast

import torch

from dyweight import baselines
from trainer.checkpoints.load import load_checkpoint
from trainer.compare.endpoint_error import endpoint_error, error_or_infinity, errors_over_calls, handcrafted
from trainer.distill import distill
from trainer.fit.budget import Effort
from trainer.fit.judge import rivals
from trainer.losses.features import Latent
from trainer.options.distill import DistillOptions
from trainer.pairs.pairs import deviation
from trainer.pairs.targets import Block, Targets, default_cache
from trainer.pairs.teacher import Teacher
from trainer.report.curves import error_over_steps
from trainer.run.network import Network

SAMPLES_PER_CALL = 50
METHODS = ["draft", "normal", "thorough", "adam"]


def main() -> None:
    """Fit with each method, step count and seed, and print one line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit_methods", description=__doc__)
    parser.add_argument("--ckpt", default="digits")
    parser.add_argument("--steps", type=int, nargs="+", default=[3, 5, 7])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--adam-pairs", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--teacher", default="ipndm:100", help="the fine teacher that errors are measured against")
    parser.add_argument("--picture", type=Path, help="PNG of gauss-newton's errors among the handcrafted solvers'")
    arguments = parser.parse_args()

    network = Network(load_checkpoint(arguments.ckpt))
    blocks = unseen(network, arguments.teacher, arguments.samples)
    print(f"{arguments.ckpt}, {arguments.samples} unseen samples, {torch.get_num_threads()} threads")
    print("| steps | solver | endpoint error | of the best handcrafted | network calls | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    learned = {}
    for steps in arguments.steps:
        best, best_error = best_rival(network, blocks, steps)
        print(f"| {steps} | {best} | {best_error:.5f} | 1 | | |", flush=True)
        for method in arguments.methods:
            pairs = arguments.adam_pairs if method == "adam" else None
            runs = [fit(arguments.ckpt, steps, method, pairs, seed, blocks) for seed in arguments.seeds]
            print(f"| {steps} | {line(method, runs, best_error)}", flush=True)
            learned[steps] = statistics.median(run[0] for run in runs)
    if arguments.picture is not None:
        curves = errors_over_calls(network, blocks, max(arguments.steps) + 3)
        error_over_steps(curves, arguments.picture, learned, "dyweight", arguments.ckpt)


def best_rival(network: Network, blocks: list[Block], calls: int) -> tuple[str, float]:
    """The best handcrafted solver with so many network calls, at any order, and its error."""
    plans = handcrafted(network.checkpoint, calls)
    for name, order in rivals(calls):
        plans[f"{name} {order or ''}".strip()] = baselines.plan(name, network.checkpoint.schedule(calls), order)
    features = Latent(deviation(blocks))
    errors = {name: error_or_infinity(network, blocks, plan, features) for name, plan in plans.items()}
    best = min(errors, key=errors.__getitem__)
    return best, errors[best]


def unseen(network: Network, teacher: str, samples: int) -> list[Block]:
    """Pairs of noise and fine endpoint that no fit draws."""
    targets = Targets(network, Teacher.parse(teacher), 1, SAMPLES_PER_CALL, default_cache())
    return [targets.block("evaluation", index) for index in range(targets.block_count(samples))]


def fit(
    ckpt: str, steps: int, method: str, pairs: int | None, seed: int, blocks: list[Block]
) -> tuple[float, int, float]:
    """Error on the unseen samples, network calls in forward-equivalents and seconds of one fit."""
    with tempfile.TemporaryDirectory() as folder:
        options = DistillOptions(
            ckpt=ckpt,
            steps=steps,
            out=Path(folder) / "solver.safetensors",
            method="adam" if method == "adam" else "gauss-newton",
            effort=cast(Effort, "normal" if method == "adam" else method),
            pairs=pairs,
            seed=seed,
            recompute=False,
            cache=Path(folder) / "cache",
        )
        with contextlib.redirect_stdout(io.StringIO()):
            done = distill(options)
    error = endpoint_error(
        Network(load_checkpoint(ckpt)), blocks, done.solver.plan().detach(), Latent(deviation(blocks))
    )
    return error, done.network_calls["total"], done.seconds


def line(method: str, runs: list[tuple[float, int, float]], best: float) -> str:
    """One row: the median over the seeds, with the smallest and largest error."""
    errors, calls, seconds = (list(column) for column in zip(*runs, strict=True))
    middle = statistics.median(errors)
    spread = f"{min(errors):.5f} to {max(errors):.5f}"
    return (
        f"{method} | {middle:.5f} ({spread}) | {middle / best:.3f} | {statistics.median(calls):,.0f} "
        f"| {statistics.median(seconds):.0f} |"
    )


if __name__ == "__main__":
    main()
