"""A sampling run of the trainer's inside ComfyUI's guider: what its calls need is set up once, as for a sampler."""

import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor

from comfyui.asking import Denoiser

from ..protocol import Result
from .guided import Guided, Inside, Texts

FAILURES = (RuntimeError, KeyError, TypeError, AttributeError)
"""What ComfyUI's networks raise where a condition or a latent is of another model."""


class TooLargeError(Exception):
    """A batch of a prepared run does not fit into the memory."""


class Preparation:
    """Of one guider, for one run at a time."""

    def __init__(self, guided: Guided) -> None:
        self._guided = guided
        self._given: tuple[Any, dict[str, Any]] | None = None
        self.denoiser: Denoiser | None = None
        """Of the plan that was asked last in this run."""
        self.fits = True
        """Until memory ran out in a prepared run: then each call is a sampling of its own, in smaller batches."""

    def run(self, texts: Texts, noise: Tensor, run: Callable[[], Result]) -> Result:
        """run(), whose calls with these texts go through `ask`; without where the guider can't be set up for them, and
        again without where memory runs out."""
        results, begun = list[Result](), False

        def inside(model: Any, extra: dict[str, Any]) -> Tensor:
            nonlocal begun
            self._given, begun = (model, extra), True
            try:
                results.append(run())
            finally:
                self._given = self.denoiser = None
            return noise

        try:
            self._guided.inside(texts, noise, inside)
        except TooLargeError:
            self.fits = False
            importlib.import_module("comfy.model_management").soft_empty_cache()
        except FAILURES:  # of the preparation: a call tells them better
            if begun:
                raise
        return results[0] if results else run()

    @property
    def running(self) -> bool:
        return self._given is not None

    def ask(self, call: Inside) -> Any:
        """As `Guided.inside` in a prepared run."""
        assert self._given is not None
        return call(*self._given)
