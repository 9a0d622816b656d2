"""The sampler node for SamplerCustom and SamplerCustomAdvanced."""

from comfy_api.v0_0_2 import io

from .comfy_sampling import sampler
from .types import Passed, SolverType, as_file, schema


class DyWeightSampler(io.ComfyNode):
    """Solver -> SAMPLER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DyWeightSampler",
            display_name="Sampler (DyWeight)",
            description="A sampler that runs the learned solver, for SamplerCustomAdvanced.",
            inputs=[
                SolverType.Input(
                    "solver", tooltip="From Load Solver (DyWeight). Feed the same one to Scheduler (DyWeight)."
                )
            ],
            outputs=[io.Sampler.Output(tooltip="For SamplerCustomAdvanced or SamplerCustom.")],
        )

    @classmethod
    def execute(cls, solver: Passed) -> io.NodeOutput:
        return io.NodeOutput(sampler(as_file(solver)))
