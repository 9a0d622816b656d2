"""The scheduler node for SamplerCustom and SamplerCustomAdvanced."""

from typing import Any

from comfy_api.v0_0_2 import io

from .comfy_sampling import partial_schedule
from .types import Passed, SolverType, as_file, schema


class DyWeightScheduler(io.ComfyNode):
    """Model, solver, denoise, steps -> SIGMAS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DyWeightScheduler",
            display_name="Scheduler (DyWeight)",
            description="The sigmas that the solver was made for, or their last part for image to image.",
            inputs=[
                io.Model.Input("model", tooltip="The model that will be sampled; the solver must be for it."),
                SolverType.Input("solver", tooltip="From Load Solver (DyWeight)."),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="1 is the whole schedule; below 1, its last round(steps x denoise) steps, at least one, "
                    "which the learned solver can run.",
                ),
                io.Int.Input(
                    "steps",
                    optional=True,
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="One of the numbers of steps that the file has; 0 is its only one, or the middle one.",
                ),
            ],
            outputs=[io.Sigmas.Output(tooltip="For SamplerCustomAdvanced or SamplerCustom.")],
        )

    @classmethod
    def execute(cls, model: Any, solver: Passed, denoise: float, steps: int = 0) -> io.NodeOutput:
        return io.NodeOutput(partial_schedule(model, as_file(solver), steps, denoise))
