"""The node that shows what was learned."""

import numpy as np
import torch
from comfy_api.v0_0_2 import io, ui

from ..dyweight.picture import picture
from .summary import summary
from .types import Passed, SolverType, as_file, schema


class DyWeightPlot(io.ComfyNode):
    """Solver, steps -> IMAGE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DyWeightPlot",
            display_name="Plot Solver (DyWeight)",
            description="A picture of the solver: what it is for, how close it comes, and its numbers.",
            inputs=[
                SolverType.Input("solver", tooltip="From Load Solver (DyWeight)."),
                io.Int.Input(
                    "steps",
                    optional=True,
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="One of the numbers of steps that the file has; 0 shows all that it has, with a line each.",
                ),
            ],
            outputs=[io.Image.Output(tooltip="The picture, for Save Image.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, solver: Passed, steps: int = 0) -> io.NodeOutput:
        file = as_file(solver)
        answer = summary(file.member(steps) if steps else file)
        pixels = np.asarray(picture(file, steps, answer), dtype=np.float32) / 255
        image = torch.from_numpy(pixels)[None]
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))
