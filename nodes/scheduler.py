"""The scheduler node for SamplerCustom and SamplerCustomAdvanced."""

from typing import Any

from comfy_api.v0_0_2 import io

from ..dyweight import Solver, SolverFile
from .comfy_sampling import partial_schedule
from .types import CATEGORY, SolverType, as_file


class DyWeightScheduler(io.ComfyNode):
    """Model, solver, denoise -> SIGMAS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DyWeightScheduler",
            display_name="DyWeight Scheduler",
            category=CATEGORY,
            description="The sigmas that the solver was made for, or their last part for image to image.",
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model that will be sampled; a solver that is not for it is named in the log."
                ),
                SolverType.Input("solver", tooltip="From DyWeight Load Solver; it decides the number of steps."),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="1 is the whole schedule. Below 1 the last round(steps x denoise) steps of it, which the "
                    "solver still knows.",
                ),
            ],
            outputs=[io.Sigmas.Output(tooltip="For SamplerCustomAdvanced or SamplerCustom.")],
        )

    @classmethod
    def execute(cls, model: Any, solver: Solver | SolverFile, denoise: float) -> io.NodeOutput:
        return io.NodeOutput(partial_schedule(model, as_file(solver), denoise))
