"""The type that links between these nodes carry."""

from comfy_api.v0_0_2 import io

from ..dyweight import Solver, SolverFile

SolverType = io.Custom("DYWEIGHT_SOLVER")
"""A SolverFile; a solver alone, as other packs may hand it, is taken too."""

CATEGORY = "sampling/DyWeight"


def as_file(solver: Solver | SolverFile) -> SolverFile:
    """What came over a link, as a file of which nothing else is known where it is a solver alone."""
    return solver if isinstance(solver, SolverFile) else SolverFile(solver, {})
