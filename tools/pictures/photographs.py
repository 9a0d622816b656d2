"""The same noises by the teacher, the best handcrafted solver and DyWeight: `python -m tools.pictures.photographs`.

A row a sampler, a column a class of `photographs`. The handcrafted solver is the one with the smallest endpoint error
at any order; DyWeight is the trainer's default fit.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.harness.bench import Bench
from benchmarks.harness.study import best
from trainer.checkpoints.builtin.photographs_network import CLASSES
from trainer.compare.endpoint_error import Sampler, endpoint
from trainer.compare.handcrafted import handcrafted
from trainer.pairs.targets import Block
from trainer.pairs.teacher import Teacher
from trainer.report.samples import samples

OUT = Path(__file__).parents[2] / "docs" / "images" / "photographs-samples.png"
TEACHER = "ipndm:100"
SAMPLES = 200
"""On which the best handcrafted solver is found."""


def grid(model: str, every_calls: Sequence[int], seed: int, quick: bool) -> dict[str, Tensor]:
    """Label -> pictures [10, H, W, 3] in 0..1, one of each class."""
    bench = Bench(model, quick, TEACHER, SAMPLES)
    noise, _ = bench.checkpoint.draw(torch.Generator().manual_seed(seed), len(CLASSES))
    block = Block(0, noise, torch.arange(len(CLASSES)), torch.zeros_like(noise))

    def shown(sampler: Sampler) -> Tensor:
        images = bench.checkpoint.images(endpoint(bench.network, block, sampler))
        assert images is not None
        return images

    found = {f"teacher\n{TEACHER}": shown(Teacher.parse(TEACHER).plan(bench.checkpoint))}
    for calls in every_calls:
        name, _ = best(bench.handcrafted_errors(calls))
        found[f"{calls} calls\n{name}"] = shown(handcrafted(bench.checkpoint, calls)[name])
        found[f"{calls} calls\nDyWeight"] = shown(bench.fit(calls, seed).solver)
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Fit, sample and draw."""
    parser = argparse.ArgumentParser(description="Draw the same photographs by several samplers.")
    parser.add_argument("--model", default="photographs", help="as --ckpt names it (%(default)s)")
    parser.add_argument("--calls", type=int, nargs="+", default=(3, 5, 7), help="network calls (3 5 7)")
    parser.add_argument("--seed", type=int, default=0, help="of the noises and the fits (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="few samples to find the handcrafted solver by")
    parser.add_argument("--out", type=Path, default=OUT, help="the picture (%(default)s)")
    options = parser.parse_args(words)
    made = grid(options.model, options.calls, options.seed, options.quick)
    samples(made, options.out, "The same noises by each sampler", CLASSES)
    print(options.out)


if __name__ == "__main__":
    main()
