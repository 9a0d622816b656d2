"""The type that links between these nodes carry."""

from comfy_api.v0_0_2 import io

SolverType = io.Custom("DYWEIGHT_SOLVER")
"""A solver as `dyweight.load_solver` returns it."""

CATEGORY = "sampling/DyWeight"
