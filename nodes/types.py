"""What these nodes have in common: the type of their links, and how they are found."""

import dataclasses
import sys
from typing import Any

from comfy_api.v0_0_2 import io

from ..dyweight import Solver, SolverFile, SolverSet

SolverType = io.Custom("DYWEIGHT_SOLVER")
Passed = Solver | SolverSet | SolverFile
"""A SolverFile; a solver alone or a set, as other packs may pass them, is accepted too."""

FOUND_BY = ["few step", "few-step", "fewer steps", "fast sampler", "distill", "turbo", "learned sampler"]
"""What people type who do not know the pack's name."""


TRAINING = "model/training"
"""The folder of ComfyUI's nodes that train."""


def schema(**fields: Any) -> io.Schema:
    """A node's schema, in the folder of ComfyUI's samplers unless named, without the fields that this ComfyUI lacks."""
    samplers = sys.modules["nodes"].KSampler.CATEGORY
    known = {field.name for field in dataclasses.fields(io.Schema)}
    category = f"{samplers}/DyWeight"
    return io.Schema(**{"category": category, **{name: value for name, value in fields.items() if name in known}})


def as_file(solver: Passed) -> SolverFile:
    """The value of a link as a file, without provenance where it is a solver alone."""
    return solver if isinstance(solver, SolverFile) else SolverFile(solver, {})
