"""The loader node."""

from typing import Any

from comfy_api.v0_0_2 import io

from ..dyweight import SolverFileError
from . import messages, notes, solver_library
from .types import CATEGORY, SolverType


class DyWeightLoadSolver(io.ComfyNode):
    """Coefficient file -> solver."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DyWeightLoadSolver",
            display_name="DyWeight Load Solver",
            category=CATEGORY,
            description="Reads a coefficient file: the learned weights of a few-step sampler.",
            inputs=[
                io.Combo.Input(
                    "solver_name",
                    options=solver_library.names(),
                    tooltip="A file in models/dyweight, or a preset that comes with the pack. Choose the one that was "
                    "made for your model and your number of steps.",
                )
            ],
            outputs=[SolverType.Output("solver", tooltip="For DyWeight Apply, Sampler, Scheduler and Plot.")],
        )

    @classmethod
    def validate_inputs(cls, solver_name: Any = None) -> bool | str:
        if not isinstance(solver_name, str):
            return True
        try:
            solver_library.load(solver_name)
        except SolverFileError as error:
            return str(notes.refusal(messages.UNUSABLE_FILE, reason=error))
        return True

    @classmethod
    def fingerprint_inputs(cls, solver_name: Any = None) -> str:
        return solver_library.content_digest(str(solver_name))

    @classmethod
    def execute(cls, solver_name: str) -> io.NodeOutput:
        return io.NodeOutput(solver_library.load(solver_name))
