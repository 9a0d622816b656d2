"""The options that say how a checkpoint is loaded; the command lines of the trainer inherit them."""

from dataclasses import dataclass

from ..checkpoints.comfy.options import ComfyOptions


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions(ComfyOptions):
    """The options of each kind of checkpoint in `KINDS` of `trainer/checkpoints/load.py`."""
