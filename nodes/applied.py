"""What a model that carries a solver checks in each run, whichever sampler it is given to."""

from collections.abc import Callable
from typing import Any

from ..dyweight import SolverFile
from . import messages, notes

SOLVER = "dyweight_solver"
"""Where a model's options and its model-sampling object hold the solver's file."""


class Applied:
    """An OUTER_SAMPLE wrapper of ComfyUI: says where Apply Solver has no effect, or not the whole of it."""

    sampled = 0
    """How often the sampler of this pack has run, in all."""

    def __init__(self, file: SolverFile, again: bool) -> None:
        """again: the model carried a solver before."""
        self._file, self._again = file, again

    def __call__(self, sample: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if not any(hasattr(one, "max_denoise") for one in args):  # no SAMPLER: a fit asks for the network alone
            return sample(*args, **options)
        if self._again:
            notes.warn(messages.REMOVE_APPLY, file=self._file.name)
        patcher: Any = sample.class_obj.model_patcher  # type: ignore[attr-defined]
        if SOLVER not in vars(patcher.get_model_object("model_sampling")):
            notes.warn(messages.MOVE_MODEL_SAMPLING, file=self._file.name)
        before = Applied.sampled
        samples = sample(*args, **options)
        if Applied.sampled == before:  # only known afterwards: samplers of other packs may run this one
            notes.warn(messages.SET_SAMPLER, file=self._file.name)
        return samples
