"""ComfyUI's own samplers and schedulers, run by ComfyUI's code, for a solver to be compared with."""

import importlib
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from dyweight.suggest import did_you_mean

from ...run.errors import CheckpointError
from ..protocol import Rival

SampleWith = Callable[..., tuple[Tensor, int]]
"""(sampler, scheduler, steps, noise, cond) -> (endpoint, network calls), as `ComfyCheckpoint.sample_with`."""

SAMPLERS = ("euler", "dpmpp_2m", "ipndm", "uni_pc", "deis", "res_multistep", "er_sde")
SCHEDULERS = ("simple", "beta", "karras")
NAMES = tuple(f"{sampler}/{scheduler}" for sampler in SAMPLERS for scheduler in SCHEDULERS)


def check_names(names: Sequence[str]) -> None:
    """CheckpointError for a name that is not SAMPLER/SCHEDULER of the ComfyUI at hand."""
    samplers = importlib.import_module("comfy.samplers")
    for name in names:
        sampler, _, scheduler = name.partition("/")
        for part, known in ((sampler, samplers.SAMPLER_NAMES), (scheduler, samplers.SCHEDULER_NAMES)):
            if part not in known:
                raise CheckpointError(
                    f"--baselines {name}: {did_you_mean(part, tuple(known))}give SAMPLER/SCHEDULER of ComfyUI, "
                    f"such as euler/simple; by default {', '.join(NAMES)}"
                )


def found(
    sample_with: SampleWith,
    first: tuple[Tensor, Tensor],
    network_calls: int,
    names: Sequence[str] | None,
    count: Callable[[int], object],
) -> dict[str, Rival]:
    """The samplers that make exactly this many network calls with some number of steps, by name.

    first: noise and condition of one sample, on which the number of steps is searched. count: told of the calls that
    the search takes. Raises CheckpointError as `check_names` does.
    """
    if names:
        check_names(names)
    rivals = {}
    for name in names or NAMES:
        for steps in (network_calls, network_calls - 1, network_calls + 1, network_calls // 2):
            if steps < 1:
                continue
            with torch.inference_mode():
                _, made = sample_with(*name.split("/"), steps, *first)
            count(made)
            if made == network_calls:
                rivals[name] = Rival(network_calls, partial(_endpoint, sample_with, name, steps))
                break
    return rivals


def _endpoint(sample_with: SampleWith, name: str, steps: int, noise: Tensor, cond: Tensor) -> Tensor:
    return sample_with(*name.split("/"), steps, noise, cond)[0]
