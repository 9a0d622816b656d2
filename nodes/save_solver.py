"""The node that writes a schedule and its sampler into a coefficient file."""

from typing import Any

from comfy_api.v0_0_2 import io
from torch import Tensor

from ..comfyui.facts import family_of
from ..dyweight import baselines
from ..dyweight.by_hand import by_hand
from . import messages, notes
from .new_file import write_new
from .types import SolverType, schema


class DyWeightSaveSolver(io.ComfyNode):
    """SIGMAS, the name of a sampler, a name -> a file in models/dyweight, and the solver."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DyWeightSaveSolver",
            display_name="Save Solver (DyWeight)",
            description="Writes a schedule and its sampler into a file, as those of a turbo LoRA: then they are loaded "
            "and chosen like a learned solver.",
            inputs=[
                io.Sigmas.Input("sigmas", tooltip="The whole schedule, for example from ManualSigmas."),
                io.Combo.Input(
                    "sampler_name",
                    options=list(baselines.NAMES),
                    default="euler",
                    tooltip="The sampler that the schedule is for; deterministic ones only.",
                ),
                io.String.Input(
                    "name",
                    default="my-lora-8-steps",
                    tooltip="Name of the file in models/dyweight, which is never overwritten: a number is added.",
                ),
                io.String.Input("made_for", default="", tooltip="What it is for, for people to read."),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model that it is for: then the file is also found where no node names it.",
                ),
            ],
            outputs=[SolverType.Output("solver", tooltip="For Apply Solver (DyWeight) or Sampler (DyWeight).")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, sigmas: Tensor, sampler_name: str, name: str, made_for: str, model: Any = None) -> io.NodeOutput:
        """Raises ValueError where the sigmas or the name make no file."""
        family = None if model is None else family_of(model.model)
        try:
            written = write_new(by_hand(sigmas.double(), sampler_name, made_for or name, family), name)
        except ValueError as error:
            raise notes.refusal(messages.UNSAVED, reason=error) from None
        return io.NodeOutput(written, ui={"text": (f"{written.path}",)})
