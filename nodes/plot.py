"""The node that shows what was learned."""

from comfy_api.v0_0_2 import io, ui

from ..dyweight import Solver
from .drawing import picture
from .types import CATEGORY, SolverType


class DyWeightPlot(io.ComfyNode):
    """Solver -> IMAGE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DyWeightPlot",
            display_name="DyWeight Plot",
            category=CATEGORY,
            description="A picture of the solver: what it was made for, its weights, time scale and schedule.",
            inputs=[SolverType.Input("solver", tooltip="From DyWeight Load Solver.")],
            outputs=[io.Image.Output(tooltip="The picture, for Save Image.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, solver: Solver) -> io.NodeOutput:
        image = picture(solver)
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))
