"""Train the classifier of photographs: `python -m tools.models.train_photographs_judge --data FOLDER`.

FOLDER has CIFAR-10 as `cifar10.py` describes it. The learning rate falls over the minutes given, however many batches
they hold.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.frechet import frechet_distance
from trainer.checkpoints.builtin.photographs_judge import PIXELS, WEIGHTS, Judge, judge
from trainer.compare.image_metrics import Statistics

from .cifar10 import TEST, TRAIN, pictures

BATCH, LEARNING_RATE, WEIGHT_DECAY = 128, 6e-3, 0.05
WARM_UP = 0.15
"""Part of the time in which the learning rate rises."""
SHIFT = 2
"""Most pixels that a picture is moved, so that the few pictures go further."""


def augmented(images: Tensor) -> Tensor:
    """uint8 [B, 3, 16, 16] -> the same in 0..1, flipped at random and moved, the same way for a batch."""
    batch = images.float() / 255
    batch = torch.where(torch.rand(len(batch), 1, 1, 1) < 0.5, batch.flip(3), batch)
    left, up = torch.randint(2 * SHIFT + 1, (2,)).tolist()
    padded = functional.pad(batch, (SHIFT,) * 4, mode="reflect")
    return padded[..., up : up + PIXELS, left : left + PIXELS]


def train(images: Tensor, labels: Tensor, minutes: float, seed: int) -> tuple[Judge, int]:
    """A classifier trained for so long, and its number of batches."""
    torch.manual_seed(seed)
    network = Judge()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    began, batches = time.process_time(), 0
    while True:
        for picked in torch.split(torch.randperm(len(images)), BATCH):
            elapsed = (time.process_time() - began) / (60 * minutes)
            if elapsed >= 1:
                return network, batches
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * min(elapsed / WARM_UP, (1 - elapsed) / (1 - WARM_UP))
            with torch.autocast("cpu", torch.bfloat16):
                scores = network.answer(network(augmented(images[picked])))
            loss = functional.cross_entropy(scores.float(), labels[picked])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            batches += 1
            if batches % 500 == 0:
                print(f"batch {batches}: loss {loss.item():.3f}, {60 * minutes * elapsed:.0f} s", flush=True)


@torch.no_grad()
def features(network: Judge, images: Tensor) -> Tensor:
    """uint8 [N, 3, 16, 16] -> features [N, 128] in evaluation mode."""
    network.eval()
    return torch.cat([network(some.float() / 255) for some in torch.split(images, 500)])


def main(words: Sequence[str] | None = None) -> None:
    """Train, write the weights with the statistics of the training pictures, and say how good they are."""
    parser = argparse.ArgumentParser(description="Train the classifier of photographs.")
    parser.add_argument("--data", type=Path, required=True, help="folder with CIFAR-10")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where to write the weights (%(default)s)")
    parser.add_argument("--minutes", type=float, default=8, help="of processor time to train for (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (%(default)s)")
    options = parser.parse_args(words)
    images, labels = pictures(options.data, TRAIN, PIXELS)
    network, batches = train(images, labels, options.minutes, options.seed)
    # Rounded before the statistics are taken, so that they are those of the weights that are written.
    network.load_state_dict({name: value.half().float() for name, value in network.state_dict().items()})
    seen = features(network, images).double()
    network.mean, network.covariance = seen.mean(0).float(), seen.T.cov().float()
    exact = ("mean", "covariance")
    weights = {
        name: (value if name in exact or not value.is_floating_point() else value.half()).contiguous()
        for name, value in network.state_dict().items()
    }
    description = f"classifier of CIFAR-10 at 16 x 16, {batches} batches of {BATCH}, seed {options.seed}"
    save_file(weights, options.out, metadata={"description": description})
    print(f"{options.out}: {options.out.stat().st_size:,} bytes, {description}")
    written = judge(options.out)
    reference = written.mean.double().numpy(), written.covariance.double().numpy()
    for split, some, truth in (("training", images, labels), ("test", *pictures(options.data, TEST, PIXELS))):
        seen, statistics = features(written, some), Statistics()
        statistics.add(seen)
        right = (written.answer(seen).argmax(1) == truth).float().mean()
        distance = frechet_distance(statistics.gaussian(), reference)
        print(f"{len(some):,} {split} pictures: {right:.2%} right, Fréchet distance {distance:.4f}")


if __name__ == "__main__":
    main()
