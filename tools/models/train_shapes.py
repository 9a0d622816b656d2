"""Train the pixel-space model `shapes` from scratch: `python -m tools.models.train_shapes`.

EDM's training (Karras et al. 2022, arXiv:2206.00364, section 5 and table 1) on pictures drawn for every batch, so that
no picture is seen twice and there is nothing to memorise.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import dyweight
from trainer.checkpoints.builtin import shapes_data
from trainer.checkpoints.builtin.shapes import (
    CENTRE,
    CLASSES,
    SIGMA_DATA,
    SPREAD,
    WEIGHTS,
    Shapes,
    ShapesNetwork,
    checkpoint,
    preconditioned,
)

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "shapes-samples.png"
LOG_SIGMA_MEAN, LOG_SIGMA_DEVIATION = -0.6, 1.6
"""EDM has -1.2 and 1.2, which leaves sigma above 20 unlearned; a solver with few steps asks there too."""
BATCH = 64
LEARNING_RATE = 2e-3
AVERAGE_DECAY = 0.999
TEACHER_STEPS = 40
JUDGES = 20_000
"""Fresh drawings, of which the nearest one says what a sample shows."""


def drawn(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Data [count, 3, 16, 16] of about deviation SIGMA_DATA and their classes [count]."""
    prompts = torch.randint(len(shapes_data.PROMPTS), (count,), generator=generator)
    pictures = shapes_data.draw(prompts, generator)
    return (pictures - CENTRE) / SPREAD, prompts


def edm_loss(network: torch.nn.Module, clean: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """The weighted squared error of the denoiser at log-normal sigmas: clean [B, 3, 16, 16], labels [B] -> scalar."""
    level = torch.randn(len(clean), generator=generator)
    sigma = (LOG_SIGMA_MEAN + LOG_SIGMA_DEVIATION * level).exp()
    noise = torch.randn(clean.shape, generator=generator)
    noisy = clean + sigma.reshape(-1, 1, 1, 1) * noise
    error = (preconditioned(network, noisy, sigma, labels) - clean).square().mean((1, 2, 3))
    weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
    return (weight * error).mean()


def train(steps: int, seed: int) -> ShapesNetwork:
    """The exponential moving average of a network trained for `steps` batches."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = ShapesNetwork()
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY))  # type: ignore[no-untyped-call]
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99))
    rate = OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.05, cycle_momentum=False)
    began, running = time.monotonic(), 1.0
    for step in range(1, steps + 1):
        loss = edm_loss(network, *drawn(BATCH, generator), generator)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        average.update_parameters(network)
        running += 0.01 * (loss.item() - running)
        if step % 500 == 0 or step == steps:
            print(f"step {step}/{steps}: loss {running:.4f}, {time.monotonic() - began:.0f} s", flush=True)
    return cast(ShapesNetwork, average.module)


def write(network: ShapesNetwork, path: Path, steps: int, seed: int) -> None:
    """Save the weights in half precision under a temporary name, then rename, so that no reader sees half a file."""
    partial = path.with_name(path.name + ".partial")
    # One key only: safetensors keeps several in no fixed order, and the fingerprint hashes the file.
    description = f"EDM of drawn shapes, {steps} steps, seed {seed}"
    weights = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, partial, metadata={"description": description})
    partial.replace(path)


@torch.no_grad()
def sample(shapes: Shapes, noise: Tensor, cond: Tensor, steps: int = TEACHER_STEPS) -> Tensor:
    """iPNDM on EDM's schedule: noise [B, 3, 16, 16], cond [B] -> samples [B, 3, 16, 16]."""
    plan = dyweight.baselines.plan("ipndm", shapes.schedule(steps))
    return dyweight.sample(lambda x, sigma: shapes.denoise(x, sigma, cond), noise, plan)


def nearest(images: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """images [N, 3, 16, 16], others [M, ...] -> root mean squared distances [N] to the nearest, and its number [N]."""
    distances = torch.cdist(images.flatten(1), others.flatten(1)) / images[0].numel() ** 0.5
    found = distances.min(1)
    return found.values, found.indices


def report(samples: Tensor, cond: Tensor) -> None:
    """Print how far samples [N, 3, 16, 16] and fresh drawings are from the nearest drawing, and whether it is of the
    class cond [N]."""
    generator = torch.Generator().manual_seed(1000)
    judges, judged = drawn(JUDGES, generator)
    fresh, fresh_labels = drawn(len(samples), generator)
    for name, images, labels in (("samples", samples, cond), ("new drawings", fresh, fresh_labels)):
        distance, found = nearest(images, judges)
        right = (judged[found] == labels).float().mean()
        print(f"{name}: nearest drawing at {distance.mean() / SIGMA_DATA:.3f} deviations, of the class {right:.1%}")


def draw_picture(shapes: Shapes, samples: Tensor, path: Path) -> None:
    """Samples [36, 3, 16, 16], one of each class in order, a row for each shape."""
    tiles = functional.pad(shapes.images(samples).movedim(-1, 1), (1, 1, 1, 1), value=1.0)
    tiles = tiles.reshape(len(shapes_data.SHAPES), -1, *tiles.shape[1:])
    sheet = tiles.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    figure = Figure(figsize=(sheet.shape[1] / 25, sheet.shape[0] / 25), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1), frame_on=False, xticks=[], yticks=[])
    axes.imshow(sheet.numpy(), interpolation="nearest")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the pixel-space model of drawn shapes.")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where to write the weights (%(default)s)")
    parser.add_argument("--steps", type=int, default=5000, help="training batches (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training and of the samples (%(default)s)")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where to draw samples (%(default)s)")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Train, write the weights, and judge what was written."""
    options = arguments(words)
    start = time.perf_counter()
    write(train(options.steps, options.seed), options.out, options.steps, options.seed)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes, {time.perf_counter() - start:.0f} s of training")

    shapes = checkpoint(options.out)
    noise, _ = shapes.draw(torch.Generator().manual_seed(options.seed), CLASSES * 8)
    cond = torch.arange(CLASSES).repeat_interleave(8)
    samples = sample(shapes, noise, cond)
    report(samples, cond)
    shown = samples[::8]
    draw_picture(shapes, shown, options.picture)
    print(f"{options.picture}: a sample of each class")


if __name__ == "__main__":
    main()
