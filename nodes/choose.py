"""Which solver runs, on which rows, and what is logged about it."""

import logging
import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..dyweight import Solver, SolverFile
from ..dyweight.placement import (
    FAR,
    SAME_START,
    Placement,
    ScheduleError,
    place,
    schedule_distance,
    untrained_plan,
    without_time_scaling,
)
from . import solver_library
from .model_facts import ModelFacts, same_family

_log = logging.getLogger("DyWeight")


Read = Callable[[Solver], dict[str, Tensor | None]]
"""A solver -> noise and condition of the samples, as far as it reads them."""


def placed(file: SolverFile, sigmas: Tensor, known: ModelFacts, start: float | None, read: Read) -> Placement:
    """The solver on these sigmas, with a warning for each way in which it was made for something else."""
    solver = file.solver
    try:
        samples = read(solver)
        placement = place(solver, sigmas.cpu(), start, **samples)
    except ValueError as error:
        raise ScheduleError(f"DyWeight solver {file.name}: {error}") from error
    if solver.reads_noise and samples["noise"] is None and placement.rule != "untrained":
        solver_library.say_once(
            f"{file.name} gives each noise its own schedule, but the noise is not known here: the latent comes from an "
            "earlier sampler. The schedule of the mean noise is used"
        )
    if placement.rule == "untrained":
        _log.warning(
            "the sigmas from %.4g are not part of the schedule of %s, so the untrained solver runs (variable-step "
            "Adams-Bashforth of order 3). For image to image with the learned one choose the scheduler 'dyweight' with "
            "steps / denoise = %d, or use the node DyWeightScheduler",
            float(sigmas[0]),
            file.name,
            solver.steps,
        )
        return placement
    if placement.distance > FAR:
        _log.warning(
            "the sigmas differ by up to %s from those that %s was made for (%s): the scheduler 'dyweight' gives those",
            _factor(placement.distance),
            file.name,
            ", ".join(f"{float(sigma):.3g}" for sigma in solver.sigmas),
        )
    warn_of_differences(file, known, own_schedule=placement.distance <= SAME_START)
    if known.interval:
        solver_library.say_once(
            f"{known.family} answers for an interval ({known.interval}), so {file.name} runs without its time scaling; "
            "a multistep solver is not meant for such a network: better take euler and the steps it was made for"
        )
        placement = replace(placement, plan=without_time_scaling(solver, placement.plan))
    return placement


def warn_of_the_other_half(file: SolverFile, placement: Placement) -> None:
    """Warn where a solver of two networks begins with the second one, on a latent that it did not leave."""
    if placement.rule == "part" and placement.first_step == file.solver.handover > 0:
        solver_library.say_once(
            f"give the model of the high noise levels {file.name} too, with DyWeightApply: it is for both models, "
            "and the part before ran without it"
        )


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
            return place(file.solver, sigmas.cpu(), start, **read(file.solver)).rule != "untrained"
        except ValueError:
            return False

    name, found = solver_library.matching(fits)
    if name is not None:
        _log.info("sampling with the solver %s", name)
        return placed(solver_library.load(name), sigmas, known, start, read)
    steps, family = len(sigmas) - 1, known.family or "this model"
    if before:
        reason = f"this model has no solver, but the part before ran with {before}"
        advice = f"give both models {before} with DyWeightApply"
    elif found:
        reason = f"several solvers fit {family} at {steps} steps ({', '.join(found)})"
        advice = "choose one with the nodes DyWeightLoadSolver and DyWeightApply"
    else:
        reason = f"no solver fits {family} at {steps} steps from sigma {float(sigmas[0]):.4g}"
        advice = (
            "for a denoise below 1, steps / denoise must be the number of steps of a file; otherwise "
            f"put a coefficient file for it into models/dyweight, or distil one: "
            f"python -m trainer.distill --ckpt YOUR_MODEL --steps {steps} --out FILE.safetensors"
        )
    solver_library.say_once(f"{reason}, so the untrained one runs (variable-step Adams-Bashforth of order 3); {advice}")
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
        _log.info("scheduling with the sigmas of %s", ", ".join(found))
        return solvers[0].sigmas.float()
    family = known.family or "this model"
    reason = f"no file is for {family} at {steps} steps"
    if found:
        reason = f"several files for {family} at {steps} steps disagree ({', '.join(found)})"
    solver_library.say_once(
        f"scheduler 'dyweight': {reason}, so ComfyUI's 'simple' is used; give the model its solver with DyWeightApply"
    )
    return None


def resampled(file: SolverFile, steps: int) -> Tensor:
    """The solver's sigmas, float32; for another number of steps (KSampler asks for more when denoise is below 1) points
    between them, evenly spaced and on the same curve of log sigma."""
    solver = file.solver
    own = solver.sigmas
    if steps == solver.steps:
        return own.float()
    _log.info("the sigmas of %s, made for %d steps, are resampled to %d", file.name, solver.steps, steps)
    position = torch.linspace(0, solver.steps, steps + 1, dtype=torch.float64)
    below = position.floor().long().clamp(max=solver.steps - 1)
    fraction, high, low = position - below, own[below], own[below + 1]
    curve = torch.exp(torch.lerp(high.log(), low.clamp(min=1e-300).log(), fraction))
    return torch.where(low > 0, curve, torch.lerp(high, low, fraction)).float()


def warn_of_differences(file: SolverFile, known: ModelFacts, own_schedule: bool = True) -> None:
    """Warn once of what differs between the model at hand and that of the solver."""
    found = list(known.differences(file, own_schedule))
    if found:
        solver_library.say_once(f"the solver {file.name} was made for something else: {'; '.join(found)}")


def _factor(distance: float) -> str:
    return f"{math.expm1(distance):.0%}" if distance < math.log(2) else f"a factor of {math.exp(distance):.2g}"


def _made_for(known: ModelFacts, file: SolverFile) -> bool:
    family, prediction = file.provenance.get("model_family"), file.provenance.get("prediction_type")
    same = known.family and family and same_family(known.family, family)
    return bool(same) and prediction in (None, known.prediction_type)
