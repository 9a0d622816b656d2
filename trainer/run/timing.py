"""The cost of a run: network calls, and the time estimated from one timed call."""

import time

import torch

from .network import Network


def call_count(fewest: int, most: int) -> str:
    """`about 20,700 to 31,000 network calls`, to three digits; a single number if both are equal."""
    low, high = (f"{float(format(calls, '.3g')):,.0f}" for calls in (fewest, most))
    return f"about {_range(low, high)} network calls"


def expected_time(network: Network, calls: tuple[int, int], batch: int) -> str:
    """`, about 3 to 5 minutes` for the fewest and the most calls, after timing one; empty unless the checkpoint is
    `worth_timing`."""
    if not network.checkpoint.worth_timing:
        return ""
    each = seconds_per_call(network, batch)
    return ", " + duration(calls[0] * each, calls[1] * each)


def seconds_per_call(network: Network, batch: int) -> float:
    """Seconds of a network call per sample of a batch; the first call loads the model and is not counted."""
    checkpoint = network.checkpoint
    noise, cond = checkpoint.draw(torch.Generator().manual_seed(0), batch)
    sigma = checkpoint.schedule(2)[0].to(noise.device, noise.dtype).expand(batch)
    with torch.inference_mode():
        for _ in range(2):
            began = time.perf_counter()
            float(checkpoint.denoise(noise, sigma, cond).flatten()[0])  # waits for the device
    return (time.perf_counter() - began) / batch


def duration(shortest: float, longest: float) -> str:
    """Seconds -> a text such as `about 3 to 5 minutes`."""
    if longest < 90:
        unit, (low, high) = "s", (f"{max(1.0, seconds):.0f}" for seconds in (shortest, longest))
    elif longest < 5400:
        unit, (low, high) = "minutes", (f"{max(1.0, seconds / 60):.0f}" for seconds in (shortest, longest))
    else:
        unit, (low, high) = "hours", (f"{seconds / 3600:.1f}" for seconds in (shortest, longest))
    return f"about {_range(low, high)} {unit}"


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
