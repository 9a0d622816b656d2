"""Train the demonstration model `digits` from scratch: `python -m tools.models.train_digits`.

The data are scikit-learn's `load_digits`: 1,797 handwritten digits of 8x8 pixels (Alpaydin and Kaynak 1998, "Optical
Recognition of Handwritten Digits", UCI Machine Learning Repository). 360 of them are held out, so that the report can
tell a generative model from a memory of its training images.
"""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from einops import rearrange
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC
from torch import Tensor
from torch.nn import functional

import dyweight
from trainer.checkpoints.builtin.digits import CLASSES, NO_CLASS, WEIGHTS, Digits, VelocityNetwork, checkpoint

from .training import PICTURES, arguments, averaged, write_weights

HELD_OUT = 360
BATCH = 256
LEARNING_RATE = 1e-3
DROPOUT = 0.2
LABEL_DROPOUT = 0.1

WARPED_SHARE = 0.7
ROTATION = math.radians(5)
SCALE = 0.05
SHIFT_PIXELS = 0.3
# Grey levels are 1/8 apart: noise of about half that hides the grid without blurring a stroke.
GREY_NOISE = 0.03


class Split(NamedTuple):
    """Real digits: images [N, 1, 8, 8] in [-1, 1], labels [N] int64."""

    images: Tensor
    labels: Tensor


def real_digits() -> tuple[Split, Split]:
    """The training digits and the held-out digits, split the same way every time."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 8 - 1, dtype=torch.float32).reshape(-1, *Digits.shape)
    classes = torch.tensor(labels, dtype=torch.int64)
    train, held_out = train_test_split(range(len(classes)), test_size=HELD_OUT, random_state=0, stratify=labels)
    return Split(images[train], classes[train]), Split(images[held_out], classes[held_out])


def uniform(*shape: int) -> Tensor:
    """Even between -1 and 1."""
    return 2 * torch.rand(*shape) - 1


def augment(images: Tensor) -> Tensor:
    """Rotate, scale and shift most of the images [B, 1, 8, 8] a little, and add a trace of noise to all."""
    batch = len(images)
    angle, scale = ROTATION * uniform(batch), 1 + SCALE * uniform(batch, 2)
    matrix = torch.stack([scale[:, 0] * angle.cos(), -angle.sin(), angle.sin(), scale[:, 1] * angle.cos()], dim=1)
    # grid_sample measures the image as 2 wide, so one of its 8 pixels is 1/4.
    shift = SHIFT_PIXELS / 4 * uniform(batch, 2, 1)
    grid = functional.affine_grid(
        torch.cat([matrix.reshape(batch, 2, 2), shift], dim=2), list(images.shape), align_corners=False
    )
    ink = functional.grid_sample(images + 1, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    chosen = torch.rand(batch, 1, 1, 1) < WARPED_SHARE
    return torch.where(chosen, ink.clamp(0, 2) - 1, images) + GREY_NOISE * torch.randn_like(images)


def flow_loss(network: VelocityNetwork, images: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error of the velocity at random times: images [B, 1, 8, 8], labels [B] -> scalar."""
    batch = len(images)
    # One time in each of B equal intervals: the same expectation as independent times, with less variance.
    sigma = (torch.arange(batch) + torch.rand(batch)) / batch
    noise = torch.randn_like(images)
    x = torch.lerp(images, noise, sigma.reshape(-1, 1, 1, 1))
    return functional.mse_loss(network(x, sigma, labels), noise - images)


def train(data: Split, steps: int, seed: int) -> VelocityNetwork:
    """The exponential moving average of a network trained for `steps` batches."""
    torch.manual_seed(seed)
    network = VelocityNetwork(dropout=DROPOUT)

    def loss() -> Tensor:
        picked = torch.randint(len(data.images), (BATCH,))
        labels = data.labels[picked].masked_fill(torch.rand(BATCH) < LABEL_DROPOUT, NO_CLASS)
        return flow_loss(network, augment(data.images[picked]), labels)

    return averaged(network, loss, steps, LEARNING_RATE)


@torch.no_grad()
def sample(digits: Digits, noise: Tensor, cond: Tensor, steps: int = 100) -> Tensor:
    """Euler's method along the flow: noise [B, 1, 8, 8], cond [B] -> samples [B, 1, 8, 8]."""
    plan = dyweight.baselines.plan("euler", digits.schedule(steps))
    return dyweight.sample(lambda x, sigma: digits.denoise(x, sigma, cond), noise, plan)


def nearest_distance(images: Tensor, references: Tensor) -> float:
    """Mean Euclidean distance of images [B, 1, 8, 8] to the nearest of references [N, 1, 8, 8]."""
    return float(torch.cdist(images.flatten(1), references.flatten(1)).amin(1).mean())


def report(samples: Tensor, cond: Tensor, train_split: Split, held_out: Split) -> None:
    """Print whether a classifier of real digits finds the class asked for, and whether the samples are new."""
    classifier = SVC(gamma=0.1).fit(train_split.images.flatten(1).numpy(), train_split.labels.numpy())
    real = classifier.score(held_out.images.flatten(1).numpy(), held_out.labels.numpy())
    generated = classifier.score(samples.flatten(1).numpy(), cond.numpy())
    print(f"classifier accuracy: {real:.1%} on {len(held_out.images)} held-out digits")
    print(f"classifier accuracy: {generated:.1%} on {len(samples)} samples")
    for name, images in (("samples", samples), ("held-out digits", held_out.images)):
        distance = nearest_distance(images, train_split.images)
        print(f"mean distance to the nearest training digit: {distance:.3f} for {name}")


def sheet(pictures: Tensor) -> Tensor:
    """pictures [10 * 10, 8, 8], ten of each class in order -> one picture with a row for each class."""
    return rearrange(functional.pad(pictures, (1, 1, 1, 1)), "(row column) h w -> (row h) (column w)", row=CLASSES)


def draw_picture(digits: Digits, samples: Tensor, real: Split, path: Path) -> None:
    """Samples [100, 1, 8, 8], ten of each class in order, beside the first ten real digits of each class."""
    first = torch.cat([real.images[real.labels == label][:10] for label in range(CLASSES)])
    figure = Figure(figsize=(10, 5.3), layout="constrained")
    panels = figure.subplots(1, 2)
    titles = ("Generated: 100 Euler steps", "Real: training digits")
    for axes, title, images in zip(panels, titles, (samples, first), strict=True):
        axes.imshow(sheet(digits.images(images)).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Train, write the weights, and judge what was written."""
    picture = PICTURES / "digits-samples.png"
    options = arguments("Train the demonstration model of 8x8 digits.", WEIGHTS, 10_000, picture)
    torch.set_num_threads(2)
    train_split, held_out = real_digits()
    description = f"rectified flow of scikit-learn's load_digits, {options.steps} steps, seed {options.seed}"
    write_weights(train(train_split, options.steps, options.seed), options.out, description)
    digits = checkpoint(options.out)
    noise, _ = digits.draw(torch.Generator().manual_seed(options.seed), 1000)
    cond = torch.arange(CLASSES).repeat_interleave(100)
    samples = sample(digits, noise, cond)
    report(samples, cond, train_split, held_out)
    shown = samples.reshape(CLASSES, -1, *digits.shape)[:, :10].flatten(0, 1)
    draw_picture(digits, shown, train_split, options.picture)
    print(f"{options.picture}: ten samples of each class beside ten real digits")


if __name__ == "__main__":
    main()
