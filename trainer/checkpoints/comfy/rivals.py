"""ComfyUI's own samplers and schedulers, run by ComfyUI's code, as what a solver is compared with."""

import importlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dyweight.suggest import did_you_mean

from ...pairs.targets import Block
from ...run.errors import CheckpointError
from ...run.network import Network
from .checkpoint import ComfyCheckpoint

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
                    f"--baselines {name}: {did_you_mean(part, tuple(known))}give SAMPLER/SCHEDULER of ComfyUI, as "
                    f"euler/simple; by default {', '.join(NAMES)}"
                )


def endpoints(checkpoint: object, block: Block, calls: int, names: Sequence[str] | None = None) -> Mapping[str, Tensor]:
    """name -> endpoints [pairs, *shape] of the samplers that make exactly so many network calls."""
    assert isinstance(checkpoint, ComfyCheckpoint)
    found = {}
    with torch.inference_mode():
        for name in names or NAMES:
            sampler, _, scheduler = name.partition("/")
            for steps in (calls, calls - 1, calls + 1, calls // 2):
                if steps < 1:
                    continue
                end, made = checkpoint.sample_with(sampler, scheduler, steps, block.noise, block.cond)
                if made == calls:
                    found[name] = end
                    break
    return found


def errors(
    network: Network, blocks: Sequence[Block], calls: int, unit: float, names: Sequence[str] | None = None
) -> dict[str, float]:
    """Relative endpoint error of each sampler at so many network calls, infinite where it is not finite."""
    sums: dict[str, float] = {}
    for block in blocks:
        for name, end in endpoints(network.checkpoint, block, calls, names).items():
            error = float((((end.cpu() - block.target.cpu()).double() / unit) ** 2).mean())
            sums[name] = sums.get(name, 0.0) + error
            network.forward += calls * len(block.noise)
    return {name: total / len(blocks) if total == total else float("inf") for name, total in sums.items()}
