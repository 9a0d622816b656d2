"""The loader node."""

from typing import Any

from comfy_api.v0_0_2 import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..dyweight import SolverFileError
from . import messages, notes, solver_library
from .summary import cfg_of, summary
from .types import FOUND_BY, SolverType, schema


class DyWeightLoadSolver(io.ComfyNode):
    """Coefficient file -> solver, and the settings that it was made for."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DyWeightLoadSolver",
            display_name="Load Solver (DyWeight)",
            search_aliases=FOUND_BY,
            description="Reads a solver file: the learned numbers of a few-step sampler.",
            inputs=[
                io.Combo.Input(
                    "solver_name",
                    options=solver_library.names(),
                    tooltip="A file in models/dyweight, or a preset that comes with the pack. Choose the one that was "
                    "made for your model; it has one number of steps or several.",
                )
            ],
            outputs=[
                SolverType.Output("solver", tooltip="For the other DyWeight nodes."),
                io.Int.Output(
                    "steps", tooltip="The file's number of steps, or the middle one, for KSampler's field of that name."
                ),
                io.Float.Output("cfg", tooltip="The cfg that the file was made with, for the field of that name."),
                io.String.Output("info", tooltip="What the file was made for, in a few lines, for Preview as Text."),
            ],
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
        file = solver_library.loaded(solver_name)
        member = file.member()
        cfg = cfg_of(member)
        unknown = ExecutionBlocker(messages.NO_CFG.format(file=file.name))
        return io.NodeOutput(file, member.solver.steps, unknown if cfg is None else cfg, summary(file))
