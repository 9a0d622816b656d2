"""The node that gives a model its solver, for KSampler and KSamplerAdvanced."""

from typing import Any

from comfy_api.v0_0_2 import io

from .comfy_sampling import with_solver
from .types import Passed, SolverType, as_file, schema


class DyWeightApply(io.ComfyNode):
    """Model, solver -> MODEL that carries the solver."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DyWeightApply",
            display_name="Apply Solver (DyWeight)",
            description="Attaches a solver to a model: choose sampler and scheduler 'dyweight' in KSampler.",
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model after its LoRAs and ModelSampling nodes: put this node last."
                ),
                SolverType.Input("solver", tooltip="From Load Solver (DyWeight)."),
            ],
            outputs=[io.Model.Output(tooltip="A copy; the input model is unchanged.")],
        )

    @classmethod
    def execute(cls, model: Any, solver: Passed) -> io.NodeOutput:
        return io.NodeOutput(with_solver(model, as_file(solver)))
