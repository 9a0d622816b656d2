"""The sampler node for SamplerCustom and SamplerCustomAdvanced."""

from comfy_api.v0_0_2 import io

from .comfy_sampling import sampler
from .types import CATEGORY, Passed, SolverType, as_file


class DyWeightSampler(io.ComfyNode):
    """Solver -> SAMPLER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DyWeightSampler",
            display_name="DyWeight Sampler",
            category=CATEGORY,
            description="A sampler that runs the learned solver, for SamplerCustomAdvanced.",
            inputs=[
                SolverType.Input(
                    "solver", tooltip="From DyWeight Load Solver. Feed the same one to DyWeight Scheduler."
                )
            ],
            outputs=[io.Sampler.Output(tooltip="For SamplerCustomAdvanced or SamplerCustom.")],
        )

    @classmethod
    def execute(cls, solver: Passed) -> io.NodeOutput:
        return io.NodeOutput(sampler(as_file(solver)))
