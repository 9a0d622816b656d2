"""The scheduler node for SamplerCustom and SamplerCustomAdvanced."""

from typing import Any

from comfy_api.v0_0_2 import io

from ..dyweight import Solver, SolverFile
from .comfy_sampling import partial_schedule
from .types import SolverType, as_file, schema


class DyWeightScheduler(io.ComfyNode):
    """Model, solver, denoise -> SIGMAS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DyWeightScheduler",
            display_name="Scheduler (DyWeight)",
            description="The sigmas that the solver was made for, or their last part for image to image.",
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model that will be sampled; the log warns if the solver is not for it."
                ),
                SolverType.Input("solver", tooltip="From Load Solver (DyWeight); it sets the number of steps."),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="1 is the whole schedule; below 1, its last round(steps x denoise) steps, which the "
                    "learned solver can run.",
                ),
            ],
            outputs=[io.Sigmas.Output(tooltip="For SamplerCustomAdvanced or SamplerCustom.")],
        )

    @classmethod
    def execute(cls, model: Any, solver: Solver | SolverFile, denoise: float) -> io.NodeOutput:
        return io.NodeOutput(partial_schedule(model, as_file(solver), denoise))
