"""The type that links between these nodes carry."""

from comfy_api.v0_0_2 import io

from ..dyweight import Solver, SolverFile, SolverSet

SolverType = io.Custom("DYWEIGHT_SOLVER")
Passed = Solver | SolverSet | SolverFile
"""A SolverFile; a solver alone or a set, as other packs may pass them, is accepted too."""

CATEGORY = "sampling/DyWeight"


def as_file(solver: Passed) -> SolverFile:
    """The value of a link as a file, without provenance where it is a solver alone."""
    return solver if isinstance(solver, SolverFile) else SolverFile(solver, {})
