"""What a run will take: network calls, and the time estimated from one timed call."""

import time

import torch

from .network import Network


def call_count(most: int) -> str:
    """`at most 1,500 network calls`."""
    return f"at most {most:,} network calls"


def expected_time(network: Network, calls: int, batch: int) -> str:
    """`, about 5 minutes` for this many calls after a timed one; empty for a checkpoint that is not `worth_timing`."""
    if not network.checkpoint.worth_timing:
        return ""
    return ", " + duration(calls * seconds_per_call(network, batch))


def seconds_per_call(network: Network, batch: int) -> float:
    """Seconds of one call of one sample as the network counts them, within a batch; the first loads the model and does
    not count."""
    checkpoint = network.checkpoint
    noise, cond = checkpoint.draw(torch.Generator().manual_seed(0), batch)
    sigma = checkpoint.schedule(2)[0].to(noise.device, noise.dtype).expand(batch)
    with torch.inference_mode():
        for _ in range(2):
            began = time.perf_counter()
            float(checkpoint.denoise(noise, sigma, cond).flatten()[0])  # waits for the device
    return (time.perf_counter() - began) / (batch * network.per_call)


def duration(seconds: float) -> str:
    """Seconds -> `about 5 minutes` and the like."""
    words, number = duration_in_words(seconds)
    return words.format(number=number)


def duration_in_words(seconds: float) -> tuple[str, str]:
    """The two parts of `duration`, for whoever translates it: the words with the field {number}, and the number."""
    if seconds < 90:
        return "about {number} s", f"{max(1.0, seconds):.0f}"
    if seconds < 5400:
        return "about {number} minutes", f"{seconds / 60:.0f}"
    return "about {number} hours", f"{seconds / 3600:.1f}"
