"""The image metrics of an evaluation: the pictures of every sampler from the same noise, batch by batch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.protocol import FullCheckpoint
from ..losses.features import in_colour
from ..options.evaluate import EvaluateOptions
from ..pairs.targets import Draw, Split, Targets
from ..run.errors import NonFiniteError, TrainerError
from ..run.table import table
from .endpoint_error import Sampler, endpoint
from .image_metrics import FID_FEATURES, Metrics, Shown

TEACHER = "teacher"
"""The row of the fine teacher."""
SPLIT: Split = "pictures"
"""Other samples than those of the endpoint errors."""


class PictureTargets(Targets):
    """Pairs with the numbered prompts in turn, as in published protocols."""

    def draw(self, split: Split, index: int) -> Draw:
        """One block, whose prompts continue those of the previous block."""
        drawn, prompts = super().draw(split, index), self.network.checkpoint.prompts
        if prompts is None:
            return drawn
        numbers = torch.arange(drawn.first, drawn.first + self.batch) % prompts
        return replace(drawn, cond=numbers)


def load_metrics(options: EvaluateOptions, targets: PictureTargets) -> Metrics:
    """Load the metrics of `--metrics`. Raises TrainerError if the checkpoint has no pictures or no prompts."""
    checkpoint, drawn = targets.network.checkpoint, targets.draw(SPLIT, 0)
    if checkpoint.images(drawn.noise[:1]) is None:
        raise TrainerError("--metrics compares pictures, but this checkpoint decodes none: a ComfyUI one needs --vae")
    if "clip" in (options.metrics or ()) and checkpoint.captions(drawn.cond) is None:
        raise TrainerError(
            "--metrics clip compares pictures with prompts, but this checkpoint has none: leave clip out, or with "
            "a ComfyUI checkpoint give --prompts instead of --conditioning"
        )
    return Metrics(options, drawn.noise.device)


def compared(errors: Mapping[str, float], learned: str, wanted: Sequence[str] | None) -> list[str]:
    """The handcrafted samplers to compare: the given ones, or by default the best by endpoint error and euler.

    errors: endpoint errors, best first; samplers that diverge are left out.
    """
    names = [name for name, error in errors.items() if name != learned and math.isfinite(error)]
    return names if wanted else [name for name in names if name == names[0] or name in ("euler", "euler/simple")]


def picture_metrics(
    targets: PictureTargets, blocks: int, samplers: Mapping[str, Sampler], metrics: Metrics
) -> dict[str, Any]:
    """The field `metrics` of report.json: the metrics of each sampler and of the teacher over this many blocks.

    They are NaN for a sampler whose pictures are not finite.
    """
    network, checkpoint = targets.network, targets.network.checkpoint
    rows = {name: metrics.row() for name in samplers} | {TEACHER: metrics.row(teacher=True)}
    lost: set[str] = set()
    for index in range(blocks):
        block = targets.block(SPLIT, index)
        shown = _pictures(checkpoint, block.target)
        captions = checkpoint.captions(block.cond)
        for name, row in rows.items():
            if name in lost:
                continue
            try:
                found = shown if name == TEACHER else _pictures(checkpoint, endpoint(network, block, samplers[name]))
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
    """The result of `picture_metrics` as a table."""
    made_with, values, samples = found["made_with"], found["values"], found["samples"]
    rows = [[name, *(_number(row.get(metric, math.nan)) for metric in made_with)] for name, row in values.items()]
    lines = [table(["sampler", *made_with], rows)]
    for name, facts in made_with.items():
        lines.append(
            f"{name} against {facts['against']}, {samples} pictures, {facts['library']} {facts['version']}, "
            f"weights {facts['weights']}"
        )
    if "fid" in made_with and samples <= FID_FEATURES:
        lines.append(f"warning: an FID of {samples} pictures says little; published ones use 30,000 or 50,000")
    return "\n".join(lines)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def _pictures(checkpoint: FullCheckpoint, x: Tensor) -> Tensor:
    """[B, 3, height, width] in 0..1 rounded to 8 bits, on the device of x. Raises NonFiniteError."""
    images = checkpoint.images(x)
    assert images is not None  # `load_metrics` has checked
    if not bool(torch.isfinite(images).all()):
        raise NonFiniteError("its pictures have values that are not finite")
    return in_colour(images, x.device).mul(255).round().div(255)
