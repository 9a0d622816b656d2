"""The node that gives a model its solver, for KSampler and KSamplerAdvanced."""

from typing import Any

from comfy_api.v0_0_2 import io

from ..dyweight import Solver, SolverFile
from .comfy_sampling import with_solver
from .types import CATEGORY, SolverType, as_file


class DyWeightApply(io.ComfyNode):
    """Model, solver -> MODEL that carries the solver."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DyWeightApply",
            display_name="DyWeight Apply",
            category=CATEGORY,
            description="The model with its solver: choose sampler and scheduler 'dyweight' in KSampler.",
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model after its LoRAs and ModelSampling nodes: put this node last."
                ),
                SolverType.Input("solver", tooltip="From DyWeight Load Solver."),
            ],
            outputs=[io.Model.Output(tooltip="A clone; the model that came in stays as it was.")],
        )

    @classmethod
    def execute(cls, model: Any, solver: Solver | SolverFile) -> io.NodeOutput:
        return io.NodeOutput(with_solver(model, as_file(solver)))
