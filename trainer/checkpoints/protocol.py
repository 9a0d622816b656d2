"""What a checkpoint is to the trainer."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Checkpoint(Protocol):
    """Any object with these four can be distilled.

    Optional attributes: `fingerprint` (str: names the weights in caches and files; by default a few network calls are
    hashed), `model_family`, `prediction_type` (str), `shift`, `guidance` (numbers), `schedule_recipe` (dict of JSON
    values: how `schedule` makes its sigmas), all kept in the file; `condition(cond)` (-> [batch, width], what a solver
    with a network may read of the condition; see `dyweight.conditions`); `images(x)` (a latent batch -> [B, height,
    width] or [B, height, width, 3] in 0..1, for pictures; None where it can't); `captions(cond)` (-> a text for each
    sample, as its prompt, for pictures and report.json; None where there are none); `features(x)` (-> [B, n],
    differentiable: what `--loss features` compares).
    """

    shape: Sequence[int]
    """Shape of one latent, without the batch axis."""

    def schedule(self, steps: int) -> Tensor:
        """sigmas [steps + 1], decreasing."""

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Any]:
        """(noise [batch, *shape] already scaled to schedule(n)[0], cond); the same generator state, the same draw."""

    def denoise(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        """x [batch, *shape], sigma [batch] -> the predicted clean x."""
