"""The image metrics of an evaluation: every sampler's pictures from the same noise, batch by batch."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dyweight import Solver

from ..checkpoints.comfy import rivals
from ..checkpoints.comfy.checkpoint import ComfyCheckpoint
from ..checkpoints.protocol import Checkpoint
from ..losses.features import in_colour
from ..options.evaluate import EvaluateOptions
from ..pairs.targets import Block, Draw, Targets
from ..report.samples import captions_of
from ..run.errors import NonFiniteError, TrainerError
from ..run.network import Network
from .endpoint_error import Sampler, endpoint, handcrafted
from .image_metrics import FID_FEATURES, Metrics, Shown

TEACHER = "teacher"
"""The row of the fine teacher."""
SPLIT = "pictures"
"""The samples are not those of the endpoint errors."""
Endpoint = Callable[[Block], Tensor]


class PictureTargets(Targets):
    """Pairs of their own, in which the prompts of a ComfyUI checkpoint come in turn, as published protocols have it."""

    def draw(self, split: str, index: int) -> Draw:
        """One block, whose prompts go on where those of the block before ended."""
        drawn, checkpoint = super().draw(split, index), self.network.checkpoint
        if not isinstance(checkpoint, ComfyCheckpoint):
            return drawn
        numbers = torch.arange(drawn.first, drawn.first + self.batch) % checkpoint.made_for["prompts"]
        return replace(drawn, cond=numbers)


def load_metrics(options: EvaluateOptions, targets: PictureTargets) -> Metrics:
    """What `--metrics` names, loaded. Raises TrainerError where the checkpoint has no pictures or no prompts."""
    checkpoint, drawn = targets.network.checkpoint, targets.draw(SPLIT, 0)
    images = getattr(checkpoint, "images", None)
    if images is None or images(drawn.noise[:1]) is None:
        raise TrainerError("--metrics compares pictures, but this checkpoint decodes none: a ComfyUI one needs --vae")
    if "clip" in (options.metrics or ()) and captions_of(checkpoint, drawn.cond) is None:
        raise TrainerError(
            "--metrics clip compares pictures with prompts, but this checkpoint tells none: leave clip out, or with "
            "a ComfyUI checkpoint give --prompts in the place of --conditioning"
        )
    return Metrics(options, drawn.noise.device)


def compared(errors: Mapping[str, float], learned: str, wanted: Sequence[str] | None) -> list[str]:
    """The handcrafted samplers to compare: those wanted, by default the best by endpoint error and euler.

    errors: endpoint errors, best first; what diverges is left out.
    """
    names = [name for name, error in errors.items() if name != learned and math.isfinite(error)]
    return names if wanted else [name for name in names if name == names[0] or name in ("euler", "euler/simple")]


def picture_metrics(
    targets: PictureTargets, blocks: int, solver: Solver, names: Sequence[str], metrics: Metrics
) -> dict[str, Any]:
    """The part `metrics` of report.json: for each sampler and the teacher the metrics of so many blocks.

    names: of handcrafted samplers. One whose pictures are not finite has no numbers.
    """
    endpoints = _endpoints(targets.network, solver, names)
    rows = {name: metrics.row() for name in endpoints} | {TEACHER: metrics.row(teacher=True)}
    lost: set[str] = set()
    for index in range(blocks):
        block = targets.block(SPLIT, index)
        shown = _pictures(targets.network.checkpoint, block.target)
        captions = captions_of(targets.network.checkpoint, block.cond)
        for name, row in rows.items():
            if name in lost:
                continue
            try:
                found = shown if name == TEACHER else _pictures(targets.network.checkpoint, endpoints[name](block))
            except NonFiniteError as error:
                print(f"warning: {name} has no image metrics: {error}")
                lost.add(name)
                continue
            with torch.inference_mode():
                for metric in row.values():
                    metric.add(Shown(found, shown, captions))
    values = {
        name: {metric: math.nan if name in lost else row[metric].value() for metric in row}
        for name, row in rows.items()
    }
    return {"samples": blocks * targets.batch, "made_with": metrics.facts, "values": values}


def metrics_table(found: Mapping[str, Any]) -> str:
    """What `picture_metrics` gives, as text."""
    made_with, values, samples = found["made_with"], found["values"], found["samples"]
    width = max(14, *(len(name) + 2 for name in values))
    lines = [f"{'sampler':<{width}}" + "".join(f"{name:>12}" for name in made_with)]
    for name, row in values.items():
        numbers = [row.get(metric, math.nan) for metric in made_with]
        lines.append(f"{name:<{width}}" + "".join(f"{x:>12.4g}" if x == x else f"{'-':>12}" for x in numbers))
    for name, facts in made_with.items():
        lines.append(
            f"{name} against {facts['against']}, {samples} pictures, {facts['library']} {facts['version']}, "
            f"weights {facts['weights']}"
        )
    if "fid" in made_with and samples <= FID_FEATURES:
        lines.append(f"warning: an FID of {samples} pictures says little; published ones take 30,000 or 50,000")
    return "\n".join(lines)


def _endpoints(network: Network, solver: Solver, names: Sequence[str]) -> dict[str, Endpoint]:
    """How each sampler ends from a block's noise, by name, the learned solver first."""
    calls, checkpoint = solver.network_calls, network.checkpoint

    def of(sampler: Sampler) -> Endpoint:
        return lambda block: endpoint(network, block, sampler)

    def of_comfyui(name: str) -> Endpoint:
        def found(block: Block) -> Tensor:
            network.forward += calls * len(block.noise)
            return rivals.endpoints(checkpoint, block, calls, [name])[name]

        return found

    learned = {solver.family: of(solver)}
    if isinstance(checkpoint, ComfyCheckpoint):
        return learned | {name: of_comfyui(name) for name in names}
    return learned | {name: of(plan) for name, plan in handcrafted(checkpoint, calls, names).items()}


def _pictures(checkpoint: Checkpoint, x: Tensor) -> Tensor:
    """[B, 3, height, width] in 0..1 as a file of 8 bits would hold them, on the device of x. Raises NonFiniteError."""
    images: Tensor = checkpoint.images(x)  # type: ignore[attr-defined]
    if not bool(torch.isfinite(images).all()):
        raise NonFiniteError("its pictures have values that are not finite")
    return in_colour(images, x.device).mul(255).round().div(255)
