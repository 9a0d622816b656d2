"""What the training scripts share: the loop with averaged weights, the file of the weights, the command line."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import torch
from safetensors.torch import save
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dyweight.files import write_whole

PICTURES = Path(__file__).parents[2] / "docs" / "images"
AVERAGE_DECAY = 0.999
N = TypeVar("N", bound=torch.nn.Module)


def averaged(network: N, loss: Callable[[], Tensor], steps: int, rate: float, most_gradient: float = torch.inf) -> N:
    """The exponential moving average of the network while AdamW trains it for `steps` batches.

    loss: of a new batch, a scalar. rate: the highest learning rate. most_gradient: longer gradients are cut to it.
    """
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY))  # type: ignore[no-untyped-call]
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.99))
    schedule = OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.05, cycle_momentum=False)
    began, running = time.monotonic(), 1.0
    for step in range(1, steps + 1):
        error = loss()
        optimizer.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), most_gradient)
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
        running += 0.01 * (error.item() - running)
        if step % 500 == 0 or step == steps:
            print(f"step {step}/{steps}: loss {running:.4f}, {time.monotonic() - began:.0f} s", flush=True)
    return cast(N, average.module)


def write_weights(network: torch.nn.Module, path: Path, description: str, half: bool = False) -> None:
    """A safetensors file of the weights, in half precision if asked for, and its size in the terminal."""
    weights = {name: (value.half() if half else value).contiguous() for name, value in network.state_dict().items()}
    # One key only: safetensors keeps several in no fixed order, and the fingerprint hashes the file.
    write_whole(path, save(weights, {"description": description}))
    print(f"wrote {path}, {path.stat().st_size:,} bytes")


def arguments(description: str, out: Path, steps: int, picture: Path | None = None) -> argparse.Namespace:
    """The command line of a script. out, steps, picture: defaults; without a picture there is no such option."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=out, help="file for the weights (%(default)s)")
    parser.add_argument("--steps", type=int, default=steps, help="number of training batches (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training and of the samples (%(default)s)")
    if picture:
        parser.add_argument("--picture", type=Path, default=picture, help="file for a picture of samples (%(default)s)")
    return parser.parse_args()
