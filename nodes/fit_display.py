"""What the node of a fit shows while it runs: a bar of network calls, some lines, the teacher beside the solver."""

import time
from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.utils
from PIL import Image
from torch import Tensor

from . import fit_lines, notes
from .fit_pictures import as_pillow, small_picture
from .notes import Sentence

LARGEST = 1024
"""Pixels of the result on the node; the whole is the node's IMAGE, and lies beside the file."""
EVERY = 5.0
"""Seconds between two lines before the first trial."""
Stopped: type[BaseException] = comfy.model_management.InterruptProcessingException


class Display:
    """On the node of this id."""

    def __init__(self, node: str, checkpoint: Any, in_words: Callable[[float], tuple[str, str]]) -> None:
        """checkpoint: the trainer's, of the canvas. in_words: seconds -> words with the field {number}, the number."""
        self._node, self._checkpoint, self._in_words = node, checkpoint, in_words
        self._bar: Any = None
        self._calls, self._most, self._best = 0, 0, (0, 0.0)
        self._began = self._said = time.monotonic()

    def begin(self, most: int, seconds: float) -> None:
        """Say how long it will take."""
        self._most, self._began, self._calls = most, time.monotonic(), 0
        self._bar = comfy.utils.ProgressBar(most, node_id=self._node)
        self.text(Sentence(fit_lines.BEGINS, most=f"{most:,}", time=self._time(seconds)))

    def called(self, samples: int) -> None:
        """At each network call. Raises ComfyUI's interrupt where the run was cancelled."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._calls += samples
        if self._bar is not None:
            self._bar.update_absolute(min(self._calls, self._most), self._most)
            if not self._best[0] and time.monotonic() - self._said >= EVERY:  # before the first trial
                told = {"calls": f"{self._calls:,}", "most": f"{self._most:,}"}
                self.text(Sentence(fit_lines.LOOKS, **told, time=self._left(self._most - self._calls)))

    def told(self, progress: Any, after: int) -> bool:
        """At each trial; whether there is a better solver than before, to show.

        progress: the trainer's FitProgress. after: network calls that come when all is fitted.
        """
        left = progress.expected_calls - progress.network_calls + after
        self._most = self._calls + left
        self.text(
            Sentence(
                fit_lines.RUNS,
                calls=f"{progress.network_calls:,}",
                most=f"{progress.network_calls + left:,}",
                time=self._left(left),
                steps=progress.steps,
                best=f"{progress.best:.5f}",
            )
        )
        best = (progress.steps, progress.best)
        better, self._best = best != self._best, best
        return better

    def picture(self, teacher: Tensor, solver: Tensor) -> None:
        """Show latents [*shape] beside each other."""
        made = [small_picture(self._checkpoint, latent) for latent in (teacher, solver)]
        images = [image for image in made if image is not None]
        if self._bar is not None and len(images) == 2:
            wide = Image.new("RGB", (sum(image.width for image in images), images[0].height))
            wide.paste(images[0], (0, 0))
            wide.paste(images[1], (images[0].width, 0))
            self._bar.update_absolute(min(self._calls, self._most), self._most, ("JPEG", wide, 512))

    def end(self, lines: Sentence, image: Tensor) -> None:
        """Show the result, and [1, height, width, 3] in the place of the previews."""
        self.text(lines)
        if self._bar is not None:
            self._bar.update_absolute(self._most, self._most, ("JPEG", as_pillow(image), LARGEST))

    def text(self, lines: Sentence) -> None:
        """Below the node's fields."""
        self._said = time.monotonic()
        notes.text(lines, self._node)

    def _left(self, calls: int) -> Sentence:
        each = (time.monotonic() - self._began) / max(1, self._calls)
        return self._time(each * max(0, calls))

    def _time(self, seconds: float) -> Sentence:
        words, number = self._in_words(seconds)
        return Sentence(words, number=number)
