"""Which solver runs, on which rows, and what is logged about it."""

import math
from collections.abc import Callable

from torch import Tensor

from ..dyweight import Solver, SolverFile
from ..dyweight.between import between
from ..dyweight.placement import FAR, Placement, place, schedule_distance, starts_alike, untrained, without_time_scaling
from ..dyweight.solver_set import SAME_START, in_words
from . import messages, notes, solver_library
from .model_facts import ModelFacts, same_family

Read = Callable[[Solver], dict[str, Tensor | None]]
"""A solver -> noise and condition of the samples, as far as it reads them."""


def placed(file: SolverFile, sigmas: Tensor, known: ModelFacts, start: float | None, read: Read) -> Placement:
    """The file's solver for these sigmas, with a note for each way in which it was made for something else.

    Raises ValueError for a model of another family, and for sigmas or samples that the solver has no table for.
    """
    refuse_other_family(file, known)
    any_solver, given = file.solvers.member(), len(sigmas) - 1
    steps = {"steps": in_words(file.solvers.steps), "file": file.name, "given": given}
    try:
        samples = read(any_solver)
        placement = place(file.solvers, sigmas.cpu(), start, **samples)
    except ValueError as error:
        if given not in file.solvers.steps and float(sigmas[0]) > float(sigmas[1]):
            raise notes.refusal(messages.SET_STEPS, **steps) from None
        raise notes.refusal(messages.CANT_RUN, reason=error, file=file.name) from None
    if placement.rule == "untrained":
        alike = starts_alike(any_solver, sigmas)
        notes.warn(messages.NO_SUCH_STEPS if alike else messages.PARTIAL_DENOISE, **steps)
        return placement
    known_steps = file.solvers.steps
    member = file.member(placement.steps if placement.steps in known_steps else 0)
    if placement.steps not in known_steps:
        notes.warn(messages.MIXED_STEPS, **{**steps, "given": placement.steps})
    if any_solver.reads_noise and samples["noise"] is None:
        # expected where an earlier part with DyWeight left the latent
        say = notes.warn if start is None else notes.info
        say(messages.NOISE_HIDDEN, file=file.name)
    if placement.distance > FAR:
        notes.warn(messages.SET_SCHEDULER, file=file.name)
    warn_of_differences(member, known, own_schedule=placement.distance <= SAME_START)
    if known.interval:
        notes.warn(messages.FOR_INTERVALS, family=known.family, reason=known.interval, file=file.name)
        placement = without_time_scaling(file.solvers, placement)
    return placement


def warn_of_the_other_half(file: SolverFile, placement: Placement) -> None:
    """Warn where a solver of two networks begins with the second one, on a latent that it did not leave."""
    if placement.rule != "part" or placement.steps not in file.solvers.steps:
        return
    if placement.first_step == file.solvers.member(placement.steps).handover > 0:
        notes.warn(messages.OTHER_HALF, file=file.name)


def placed_with_best_match(
    sigmas: Tensor, known: ModelFacts, start: float | None, read: Read, before: str | None = None
) -> Placement:
    """The one file for this model family and these sigmas; where there is not exactly one, the untrained solver.

    before: the name of the solver that left the latent.
    """

    def fits(file: SolverFile) -> bool:
        if not _made_for(known, file):
            return False
        try:
            return place(file.solvers, sigmas.cpu(), start, **read(file.solvers.member())).rule != "untrained"
        except ValueError:
            return False

    name, found = solver_library.matching(fits)
    if name is not None:
        notes.info("sampling with the solver {file}", file=name)
        return placed(solver_library.load(name), sigmas, known, start, read)
    here = {"steps": len(sigmas) - 1, "family": known.family or "this model"}
    if before:
        notes.warn(messages.GIVE_BOTH, file=before)
    elif found:
        notes.warn(messages.SEVERAL_FIT, files=", ".join(found), **here)
    else:
        notes.warn(messages.NONE_FITS, **here)
    return untrained(sigmas.cpu(), start)


def base_schedule(known: ModelFacts, sigma_max: float, steps: int) -> Tensor | None:
    """Sigmas of the files for this model family and number of steps, if they agree."""

    def fits(file: SolverFile) -> bool:
        start = float(file.solvers.member().sigmas[0])
        starts_alike = abs(math.log(start / sigma_max)) <= SAME_START
        has = steps in file.solvers.steps or between(file.solvers, steps) is not None
        return _made_for(known, file) and starts_alike and has

    _, found = solver_library.matching(fits)
    schedules = [solver_library.load(name).solvers.sigmas_for(steps) for name in found]
    if schedules and all(schedule_distance(schedules[0], other) <= SAME_START for other in schedules):
        notes.info("scheduling with the sigmas of {files}", files=", ".join(found))
        return schedules[0].float()
    notes.warn(messages.NO_SCHEDULE, family=known.family or "this model", steps=steps)
    return None


def schedule_of(file: SolverFile, steps: int) -> Tensor:
    """The file's sigmas for any number of steps, float32; KSampler asks for more when denoise is below 1."""
    known = file.solvers.steps
    if steps not in known:
        own = {"file": file.name, "own": in_words(known)}
        notes.info("the sigmas of {file}, made for {own} steps, are resampled to {steps}", steps=steps, **own)
    return file.solvers.sigmas_for(steps).float()


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
