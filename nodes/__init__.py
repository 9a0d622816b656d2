"""The ComfyUI nodes: thin adapters to `dyweight`. Only comfy_sampling.py touches comfy.samplers."""

from typing import Any

from comfy_api.v0_0_2 import ComfyExtension

from . import comfy_sampling, notes, solver_library
from .apply import DyWeightApply
from .fit import DyWeightFit
from .ksampler import DyWeightKSampler
from .load_solver import DyWeightLoadSolver
from .plot import DyWeightPlot
from .prompts import DyWeightPrompts
from .sampler import DyWeightSampler
from .save_solver import DyWeightSaveSolver
from .scheduler import DyWeightScheduler

NODES = [
    DyWeightKSampler,
    DyWeightLoadSolver,
    DyWeightApply,
    DyWeightSampler,
    DyWeightScheduler,
    DyWeightPlot,
    DyWeightSaveSolver,
    DyWeightPrompts,
    DyWeightFit,
]


class DyWeightExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[Any]:
        return NODES


def extension() -> DyWeightExtension:
    """Register folder, sampler and scheduler, then return the nodes.

    Not in `on_load`: ComfyUI 0.8.0 never calls it.
    """
    notes.register()
    solver_library.register_folder()
    comfy_sampling.register()
    return DyWeightExtension()
