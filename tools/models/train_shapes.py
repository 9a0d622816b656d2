"""Train the pixel-space model `shapes` from scratch: `python -m tools.models.train_shapes`.

EDM's training (Karras et al. 2022, arXiv:2206.00364, section 5 and table 1) on pictures drawn for every batch, so that
no picture is seen twice and there is nothing to memorise.
"""

from pathlib import Path

import torch
from einops import rearrange
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

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

from .training import PICTURES, arguments, averaged, write_weights

LOG_SIGMA_MEAN, LOG_SIGMA_DEVIATION = -0.6, 1.6
"""EDM's -1.2 and 1.2 leave sigma above 20 unlearned, and a solver with few steps asks there too."""
BATCH = 64
LEARNING_RATE = 2e-3
TEACHER_STEPS = 40
JUDGES = 20_000
"""Number of new drawings; a sample shows what the nearest of them shows."""


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

    def loss() -> Tensor:
        return edm_loss(network, *drawn(BATCH, generator), generator)

    return averaged(network, loss, steps, LEARNING_RATE, most_gradient=1.0)


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
    tiles = functional.pad(shapes.images(samples), (0, 0, 1, 1, 1, 1), value=1.0)
    sheet = rearrange(tiles, "(shape n) h w c -> (shape h) (n w) c", shape=len(shapes_data.SHAPES))
    figure = Figure(figsize=(sheet.shape[1] / 25, sheet.shape[0] / 25), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1), frame_on=False, xticks=[], yticks=[])
    axes.imshow(sheet.numpy(), interpolation="nearest")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Train, write the weights, and judge what was written."""
    picture = PICTURES / "shapes-samples.png"
    options = arguments("Train the pixel-space model of drawn shapes.", WEIGHTS, 5000, picture)
    description = f"EDM of drawn shapes, {options.steps} steps, seed {options.seed}"
    write_weights(train(options.steps, options.seed), options.out, description, half=True)
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
