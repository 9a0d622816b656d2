"""A handcrafted solver on a schedule, as a file: so the schedule of a turbo LoRA is chosen like any other."""

from torch import Tensor

from . import baselines
from .provenance import Provenance
from .solver_file import SolverFile
from .solvers import LearnedSchedule


def by_hand(sigmas: Tensor, sampler: str, made_for: str, model_family: str | None = None) -> SolverFile:
    """The solver that is this sampler on these sigmas, and what its file says; nothing is written.

    sigmas: [steps + 1], decreasing; the last may be 0. sampler: NAME or NAME:ORDER, a deterministic one of
    `baselines.NAMES`. made_for: for people to read. model_family: ComfyUI's name of the architecture, by which a file
    is found where no node names it. Raises ValueError for another sampler, or for sigmas that do not decrease.
    """
    name, _, order = sampler.partition(":")
    if order and not order.isdecimal():
        raise ValueError(f"sampler {sampler!r}: give NAME or NAME:ORDER, such as ipndm:2")
    order_of = baselines.checked_order(name, int(order) if order else None)
    solver = LearnedSchedule(sigmas, name, order_of, time_scaling=False).requires_grad_(False)
    said: Provenance = {"model": made_for, "method": f"by hand: {name}:{order_of}", "model_family": model_family}
    return SolverFile(solver, said)
