"""Train the classifier of drawn pictures from scratch: `python -m tools.models.train_shapes_judge`."""

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR

from trainer.checkpoints.builtin import shapes_data
from trainer.checkpoints.builtin.shapes_judge import WEIGHTS, Judge, judge

BATCH, LEARNING_RATE = 64, 5e-3
GREY_NOISE = 0.1
"""Most noise on a picture: features of an endpoint that is not quite clean stay near those of the clean one."""


def drawn(count: int, generator: torch.Generator) -> tuple[Tensor, list[Tensor]]:
    """Pictures [count, 3, 16, 16] in 0..1, and the numbers of their shapes, colours and grounds, [count] each."""
    prompts = torch.randint(len(shapes_data.PROMPTS), (count,), generator=generator)
    pictures = (shapes_data.draw(prompts, generator) + 1) / 2
    colours = prompts // len(shapes_data.GROUNDS) % len(shapes_data.COLOURS)
    return pictures, [prompts // shapes_data.PER_SHAPE, colours, prompts % len(shapes_data.GROUNDS)]


def train(steps: int, seed: int) -> Judge:
    """A classifier trained on `steps` batches of fresh drawings."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = Judge()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    rate = OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, cycle_momentum=False)
    for _ in range(steps):
        pictures, truths = drawn(BATCH, generator)
        amount = GREY_NOISE * torch.rand(BATCH, 1, 1, 1, generator=generator)
        scores = network.answers(pictures + amount * torch.randn(pictures.shape, generator=generator))
        loss = torch.stack([functional.cross_entropy(*pair) for pair in zip(scores, truths, strict=True)]).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        rate.step()
    return network


def main() -> None:
    """Train, write the weights in half precision, and say how often they are right."""
    parser = argparse.ArgumentParser(description="Train the classifier of drawn pictures.")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where to write the weights (%(default)s)")
    parser.add_argument("--steps", type=int, default=1000, help="training batches (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (%(default)s)")
    options = parser.parse_args()
    start = time.perf_counter()
    weights = {
        name: value.half().contiguous() for name, value in train(options.steps, options.seed).state_dict().items()
    }
    save_file(weights, options.out, metadata={"description": f"classifier of drawn shapes, seed {options.seed}"})
    print(f"{options.out}: {options.out.stat().st_size:,} bytes, {time.perf_counter() - start:.0f} s of training")
    pictures, truths = drawn(2000, torch.Generator().manual_seed(1000))
    with torch.inference_mode():
        scores = judge(options.out).answers(pictures)
    for name, score, truth in zip(("shape", "colour", "ground"), scores, truths, strict=True):
        print(f"{name}: {(score.argmax(1) == truth).float().mean():.1%} of 2000 new drawings")


if __name__ == "__main__":
    main()
