"""Train the classifier of drawn pictures from scratch: `python -m tools.models.train_shapes_judge`."""

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR

from trainer.checkpoints.builtin import shapes_data
from trainer.checkpoints.builtin.shapes_judge import WEIGHTS, Judge, judge

from .training import arguments, write_weights

BATCH, LEARNING_RATE = 64, 5e-3
GREY_NOISE = 0.1
"""The most noise on a picture, so that an endpoint that is not quite clean has nearly the features of the clean one."""


def drawn(count: int, generator: torch.Generator) -> tuple[Tensor, list[Tensor]]:
    """Pictures [count, 3, 16, 16] in 0..1, and the numbers of their shapes, colours and grounds, [count] each."""
    prompts = torch.randint(len(shapes_data.PROMPTS), (count,), generator=generator)
    pictures = (shapes_data.draw(prompts, generator) + 1) / 2
    colours = prompts // len(shapes_data.GROUNDS) % len(shapes_data.COLOURS)
    return pictures, [prompts // shapes_data.PER_SHAPE, colours, prompts % len(shapes_data.GROUNDS)]


def train(steps: int, seed: int) -> Judge:
    """A classifier trained on `steps` batches of new drawings."""
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
    """Train, write the weights in half precision, and print how often they are right."""
    options = arguments("Train the classifier of drawn pictures.", WEIGHTS, 1000)
    network = train(options.steps, options.seed)
    write_weights(network, options.out, f"classifier of drawn shapes, seed {options.seed}", half=True)
    pictures, truths = drawn(2000, torch.Generator().manual_seed(1000))
    with torch.inference_mode():
        scores = judge(options.out).answers(pictures)
    for name, score, truth in zip(("shape", "colour", "ground"), scores, truths, strict=True):
        print(f"{name}: {(score.argmax(1) == truth).float().mean():.1%} of 2000 new drawings")


if __name__ == "__main__":
    main()
