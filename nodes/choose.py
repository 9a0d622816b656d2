"""Which solver runs, on which rows, and what is logged about it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..dyweight import Solver, SolverFile
from ..dyweight.placement import FAR, SAME_START, Placement, place, schedule_distance, untrained_plan
from . import messages, notes, solver_library
from .model_facts import ModelFacts, same_family

Read = Callable[[Solver], dict[str, Tensor | None]]
"""A solver -> noise and condition of the samples, as far as it reads them."""


def placed(file: SolverFile, sigmas: Tensor, known: ModelFacts, start: float | None, read: Read) -> Placement:
    """The solver on these sigmas, with a note for each way in which it was made for something else.

    Raises ValueError for a model of another family, and for sigmas or samples that the solver has no table for.
    """
    refuse_other_family(file, known)
    solver, given = file.solver, len(sigmas) - 1
    try:
        samples = read(solver)
        placement = place(solver, sigmas.cpu(), start, **samples)
    except ValueError as error:
        if given != solver.steps and float(sigmas[0]) > float(sigmas[1]):
            raise notes.refusal(messages.SET_STEPS, steps=solver.steps, file=file.name, given=given) from None
        raise notes.refusal(messages.CANT_RUN, reason=error, file=file.name) from None
    if placement.rule == "untrained":
        notes.warn(messages.PARTIAL_DENOISE, steps=solver.steps, file=file.name)
        return placement
    if solver.reads_noise and samples["noise"] is None:
        # expected where an earlier part with DyWeight left the latent
        say = notes.warn if start is None else notes.info
        say(messages.NOISE_HIDDEN, file=file.name)
    if placement.distance > FAR:
        notes.warn(messages.SET_SCHEDULER, file=file.name)
    warn_of_differences(file, known, own_schedule=placement.distance <= SAME_START)
    return placement


def placed_with_best_match(sigmas: Tensor, known: ModelFacts, start: float | None, read: Read) -> Placement:
    """The one file for this model family and these sigmas; where there is not exactly one, the untrained solver."""

    def fits(file: SolverFile) -> bool:
        if not _made_for(known, file):
            return False
        try:
            return place(file.solver, sigmas.cpu(), start, **read(file.solver)).rule != "untrained"
        except ValueError:
            return False

    name, found = solver_library.matching(fits)
    if name is not None:
        notes.info("sampling with the solver {file}", file=name)
        return placed(solver_library.load(name), sigmas, known, start, read)
    here = {"steps": len(sigmas) - 1, "family": known.family or "this model"}
    if found:
        notes.warn(messages.SEVERAL_FIT, files=", ".join(found), **here)
    else:
        notes.warn(messages.NONE_FITS, **here)
    return Placement(untrained_plan(sigmas.cpu(), start), "untrained", 0, 0.0)


def base_schedule(known: ModelFacts, sigma_max: float, steps: int) -> Tensor | None:
    """Sigmas of the files for this model family and number of steps, if they agree."""

    def fits(file: SolverFile) -> bool:
        solver = file.solver
        starts_alike = abs(math.log(float(solver.sigmas[0]) / sigma_max)) <= SAME_START
        return _made_for(known, file) and solver.steps == steps and starts_alike

    _, found = solver_library.matching(fits)
    solvers = [solver_library.load(name).solver for name in found]
    if solvers and all(schedule_distance(solvers[0].sigmas, other.sigmas) <= SAME_START for other in solvers):
        notes.info("scheduling with the sigmas of {files}", files=", ".join(found))
        return solvers[0].sigmas.float()
    notes.warn(messages.NO_SCHEDULE, family=known.family or "this model", steps=steps)
    return None


def resampled(file: SolverFile, steps: int) -> Tensor:
    """The solver's sigmas, float32; for another number of steps (KSampler asks for more when denoise is below 1) points
    between them, evenly spaced and on the same curve of log sigma."""
    solver = file.solver
    own = solver.sigmas
    if steps == solver.steps:
        return own.float()
    made_for = {"file": file.name, "own": solver.steps}
    notes.info("the sigmas of {file}, made for {own} steps, are resampled to {steps}", steps=steps, **made_for)
    position = torch.linspace(0, solver.steps, steps + 1, dtype=torch.float64)
    below = position.floor().long().clamp(max=solver.steps - 1)
    fraction, high, low = position - below, own[below], own[below + 1]
    curve = torch.exp(torch.lerp(high.log(), low.clamp(min=1e-300).log(), fraction))
    return torch.where(low > 0, curve, torch.lerp(high, low, fraction)).float()


def refuse_other_family(file: SolverFile, known: ModelFacts) -> None:
    """Raises ValueError where the file names another model family than that of the model at hand."""
    family = file.provenance.get("model_family")
    if known.family and family and not same_family(known.family, family):
        raise notes.refusal(messages.OTHER_FAMILY, file=file.name, there=family, here=known.family)


def warn_of_differences(file: SolverFile, known: ModelFacts, own_schedule: bool = True) -> None:
    """Say what differs between the model at hand and that of the solver, beside the family."""
    for message, here, there in known.differences(file, own_schedule):
        notes.warn(message, file=file.name, here=here, there=there)


def _made_for(known: ModelFacts, file: SolverFile) -> bool:
    family, prediction = file.provenance.get("model_family"), file.provenance.get("prediction_type")
    same = known.family and family and same_family(known.family, family)
    return bool(same) and prediction in (None, known.prediction_type)
