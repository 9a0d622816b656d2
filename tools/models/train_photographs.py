"""Train the model `photographs` from scratch: `python -m tools.models.train_photographs --data FOLDER`.

EDM's training (Karras et al. 2022, arXiv:2206.00364, section 5 and table 1) on CIFAR-10, with dropped labels for
guidance. FOLDER has the files that `cifar10.py` describes. The learning rate falls over the minutes given, however many
batches they hold. Each minute the state and the averaged weights are written; the same command continues from there.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from trainer.checkpoints.builtin.photographs_network import NO_CLASS, SIGMA_DATA, PhotographsNetwork, preconditioned

from .cifar10 import TRAIN, pictures

LOG_SIGMA_MEAN, LOG_SIGMA_DEVIATION = -1.2, 1.2
EVEN_SHARE, EVEN_RANGE = 0.1, (math.log(0.002), math.log(80.0))
"""Batches' share with sigmas even in the logarithm: EDM's log-normal leaves the largest, which a solver with few steps
asks at, unlearned."""
LABEL_DROPOUT = 0.1
LEARNING_RATE, WARM_UP = 2e-3, 1000
AVERAGE_POWER = 6.94
"""Of the moving average: a relative width of 0.1 (Karras et al. 2024, arXiv:2312.02696, equation 127)."""


@dataclass
class Progress:
    """What the weights were trained on so far."""

    pixels: int
    widths: tuple[int, ...]
    batch: int
    seed: int
    batches: int = 0
    seconds: float = 0.0


def batches(images: Tensor, labels: Tensor, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Data [size, 3, H, W] in -1..1, flipped at random, and labels of which some are NO_CLASS; epoch by epoch."""
    while True:
        order = torch.randperm(len(images), generator=generator)
        for picked in torch.split(order.to(images.device), size):
            clean, count = images[picked].float() / 127.5 - 1, len(picked)
            flipped = (torch.rand(count, generator=generator) < 0.5).to(images.device)
            dropped = (torch.rand(count, generator=generator) < LABEL_DROPOUT).to(images.device)
            clean = torch.where(flipped.reshape(-1, 1, 1, 1), clean.flip(3), clean)
            yield clean, labels[picked].masked_fill(dropped, NO_CLASS)


def edm_loss(network: torch.nn.Module, clean: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """The weighted squared error of the denoiser: clean [B, 3, H, W], labels [B] -> scalar."""
    count = len(clean)
    # One level in each of B equal intervals: the same expectation as independent ones, with less variance.
    even = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    normal = LOG_SIGMA_MEAN + LOG_SIGMA_DEVIATION * torch.special.ndtri(even.clamp(1e-6, 1 - 1e-6))
    anywhere = EVEN_RANGE[0] + (EVEN_RANGE[1] - EVEN_RANGE[0]) * torch.rand(count, generator=generator)
    chosen = torch.rand(count, generator=generator) < EVEN_SHARE
    sigma = torch.where(chosen, anywhere, normal).exp().to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean.device)
    noisy = clean + sigma.reshape(-1, 1, 1, 1) * noise
    with torch.autocast(clean.device.type, torch.bfloat16):
        denoised = preconditioned(network, noisy, sigma, labels)
    error = (denoised - clean).square().mean((1, 2, 3))
    return ((sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2 * error).mean()


def learning_rate(batch: int, elapsed: float) -> float:
    """After this many batches and that part of the time: a warm-up, then half a cosine to 0."""
    return LEARNING_RATE * min(1.0, batch / WARM_UP) * (1 + math.cos(math.pi * min(1.0, elapsed))) / 2


@torch.no_grad()
def follow(average: torch.nn.Module, network: torch.nn.Module, batch: int) -> None:
    """One step of the power-function moving average, whose memory is a fixed part of the training so far."""
    rate = 1 - (1 - 1 / batch) ** (AVERAGE_POWER + 1)
    for kept, new in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(new, rate)


def write(network: PhotographsNetwork, progress: Progress, path: Path) -> None:
    """Save the weights in half precision under a temporary name, then rename, so that no reader sees half a file."""
    partial = path.with_name(path.name + ".partial")
    weights = {name: value.half().contiguous().cpu() for name, value in network.state_dict().items()}
    # One key only: safetensors keeps several in no fixed order, and the fingerprint hashes the file.
    save_file(weights, partial, metadata={"model": json.dumps(asdict(progress))})
    partial.replace(path)


def train(data: tuple[Tensor, Tensor], progress: Progress, minutes: float, state: Path, weights: Path) -> None:
    """Train until the minutes are over; `state` is continued where it exists, and both files follow each minute."""
    device = data[0].device
    torch.manual_seed(progress.seed)
    network = PhotographsNetwork(progress.widths).to(device)
    average = deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99))
    if state.exists():
        saved = torch.load(state, map_location=device)
        progress = Progress(**saved["progress"])
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
    # A continued run draws other batches than before.
    generator = torch.Generator().manual_seed(progress.seed + progress.batches)
    before, began, running = progress.seconds, time.monotonic(), math.nan
    written = 0
    for clean, labels in batches(*data, progress.batch, generator):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress.batches, progress.seconds / (60 * minutes))
        loss = edm_loss(network, clean, labels, generator)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        progress.batches += 1
        follow(average, network, progress.batches)
        if progress.batches % 10 == 0:
            running = loss.item() if math.isnan(running) else running + 0.02 * (loss.item() - running)
        progress.seconds = before + time.monotonic() - began
        over = progress.seconds >= 60 * minutes
        if over or progress.seconds - before >= 60 * (written + 1):
            written = int((progress.seconds - before) // 60)
            saved = {
                "progress": asdict(progress),
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            torch.save(saved, state.with_suffix(".partial"))
            state.with_suffix(".partial").replace(state)
            write(average, progress, weights)
            print(f"batch {progress.batches}: loss {running:.4f}, {progress.seconds:.0f} s", flush=True)
        if over:
            return


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the model of photographs.")
    parser.add_argument("--data", type=Path, required=True, help="folder with CIFAR-10")
    parser.add_argument("--folder", type=Path, required=True, help="where the state and the weights are written")
    parser.add_argument("--minutes", type=float, default=100, help="of training in all (%(default)s)")
    parser.add_argument("--pixels", type=int, default=16, choices=(8, 16, 32), help="side of a picture (%(default)s)")
    parser.add_argument("--widths", type=int, nargs="+", default=(32, 64, 128), help="channels, finest level first")
    parser.add_argument("--batch", type=int, default=64, help="pictures in a batch (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the training (%(default)s)")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default, help="where to train (%(default)s)")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Train and write."""
    options = arguments(words)
    options.folder.mkdir(parents=True, exist_ok=True)
    images, labels = (part.to(options.device) for part in pictures(options.data, TRAIN, options.pixels))
    progress = Progress(options.pixels, tuple(options.widths), options.batch, options.seed)
    weights = options.folder / "photographs.safetensors"
    train((images, labels), progress, options.minutes, options.folder / "state.pt", weights)
    print(f"{weights}: {weights.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
