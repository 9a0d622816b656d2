"""One model at several sizes at once, so that one solver is fitted to all of them."""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..protocol import Result, Rival
from .checkpoint import ComfyCheckpoint
from .rivals import found


class Sizes:
    """A sample is one picture of each size, of the same prompt and at the same noise level, flat behind each other.

    A network call of a sample asks for all of them. Everything else is as for the first size, its schedule too.
    """

    def __init__(self, models: Sequence[ComfyCheckpoint]) -> None:
        """models: the same model at one size each."""
        self._models, self._first = list(models), models[0]
        self._numbers = [math.prod(model.shape) for model in models]
        self.shape = (sum(self._numbers),)
        told = repr([model.fingerprint for model in models])
        self.fingerprint = "comfyui-" + hashlib.sha256(told.encode()).hexdigest()[:24]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._first, name)

    @property
    def made_for(self) -> dict[str, Any]:
        """As that of the first size, with the shapes of all."""
        return {
            **self._first.made_for,
            "shape": list(self._first.shape),
            "shapes": [list(model.shape) for model in self._models],
        }

    def schedule(self, steps: int) -> Tensor:
        """That of the first size."""
        return self._first.schedule(steps)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Tensor]:
        """Noise of each size, and the numbers of prompts."""
        drawn = [model.draw(generator, batch) for model in self._models]
        return self._joined([noise for noise, _ in drawn]), drawn[0][1]

    def prepared(self, noise: Tensor, cond: Tensor, run: Callable[[], Result]) -> Result:
        """run(): what is set up for one size is undone by a call of another, since they share the model."""
        return run()

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
        """As `Asked.denoise`, of each size."""
        return self._joined([model.denoise(part, sigma, cond) for model, part in self._parts(x)])

    def denoise_at(self, x: Tensor, sigma: Tensor, cond: Tensor, states: Tensor, row: int) -> Tensor:
        """As `Asked.denoise_at`, of each size."""
        return self._joined([model.denoise_at(part, sigma, cond, states, row) for model, part in self._parts(x)])

    def predictions_at(
        self, x: Tensor, sigma: Tensor, cond: Tensor, states: Tensor, row: int, both: bool
    ) -> tuple[Tensor, Tensor | None]:
        """As `Asked.predictions_at`, of each size."""
        found = [model.predictions_at(part, sigma, cond, states, row, both) for model, part in self._parts(x)]
        others = [other for _, other in found if other is not None]
        return self._joined([one for one, _ in found]), self._joined(others) if both else None

    def sample_with(self, sampler: str, scheduler: str, steps: int, noise: Tensor, cond: Tensor) -> tuple[Tensor, int]:
        """As `Asked.sample_with`, of each size."""
        ends = [model.sample_with(sampler, scheduler, steps, part, cond) for model, part in self._parts(noise)]
        return self._joined([end for end, _ in ends]), ends[0][1]

    def rivals(
        self, network_calls: int, names: Sequence[str] | None, count: Callable[[int], object]
    ) -> dict[str, Rival]:
        """As `Asked.rivals`, of each size."""
        return found(self.sample_with, self.draw(torch.Generator().manual_seed(0), 1), network_calls, names, count)

    def images(self, x: Tensor) -> Tensor | None:
        """Those of the first size."""
        return self._first.images(next(iter(self._parts(x)))[1])

    def _parts(self, x: Tensor) -> list[tuple[ComfyCheckpoint, Tensor]]:
        parts = torch.split(x, self._numbers, 1)
        return [(model, part.reshape(len(x), *model.shape)) for model, part in zip(self._models, parts, strict=True)]

    @staticmethod
    def _joined(parts: Sequence[Tensor]) -> Tensor:
        return torch.cat([part.flatten(1) for part in parts], 1)
