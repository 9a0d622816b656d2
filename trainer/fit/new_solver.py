"""`--family` and the options that go with it -> the solver to fit, as it is before the fit."""

from collections.abc import Callable
from typing import Any

import torch

import dyweight
from dyweight import DyWeight, FreeTable, Indis, InstanceDyWeight, LearnedSchedule, Solver

from ..options.distill import DistillOptions
from ..run.errors import TrainerError
from ..run.network import Network


def new_solver(options: DistillOptions, steps: int, network: Network) -> Solver:
    """The untrained solver for so many steps that the options describe. Raises TrainerError with what to do."""
    try:
        return (
            _instance_dyweight(options, steps, network)
            if options.instance_aware
            else _MAKE[options.family](options, steps, network)
        )
    except ValueError as error:
        raise TrainerError(
            "--ckpt {name}, --steps {steps}: {reason}", name=options.ckpt, steps=steps, reason=error
        ) from error


def _dyweight(options: DistillOptions, steps: int, network: Network) -> DyWeight:
    return DyWeight(
        network.checkpoint.schedule(steps),
        options.order or min(3, steps),
        options.slope,
        options.analytic_first_step,
        initial="adams-bashforth" if options.initial == "auto" else options.initial,
        time_shifting=options.time_shifting,
        time_scaling=options.time_scaling,
        learned_guidance=_learned_guidance(options, steps, network) if options.learn_guidance else None,
        schedule=network.checkpoint.schedule_recipe,
    )


def _learned_guidance(options: DistillOptions, steps: int, network: Network) -> dict[str, Any]:
    """Every row guided; which ones stay is chosen in the fit."""
    cfg = network.checkpoint.cfg
    if cfg is None or cfg == 1:
        raise TrainerError(
            f"--learn-guidance: --ckpt {options.ckpt} is sampled without classifier-free guidance; give a --cfg other "
            "than 1, or a model with guidance"
        )
    return {"cfg": cfg, "guided": list(range(int(options.analytic_first_step), steps))}


def _indis(options: DistillOptions, steps: int, network: Network) -> Indis:
    return Indis(
        network.checkpoint.schedule(steps),
        tuple(network.checkpoint.shape),
        _condition_width(options, network),
        options.base,
        options.order,
        instance=options.instance,
        shift_factors=options.shift_factors,
        schedule=network.checkpoint.schedule_recipe,
        seed=options.seed,
    )


def _learned_schedule(options: DistillOptions, steps: int, network: Network) -> LearnedSchedule:
    return LearnedSchedule(
        network.checkpoint.schedule(steps),
        options.base,
        options.order,
        time_scaling=options.time_scaling,
        schedule=network.checkpoint.schedule_recipe,
    )


def _free_table(options: DistillOptions, steps: int, network: Network) -> FreeTable:
    return FreeTable(
        network.checkpoint.schedule(steps),
        options.base,
        options.order,
        schedule=network.checkpoint.schedule_recipe,
    )


def _instance_dyweight(options: DistillOptions, steps: int, network: Network) -> InstanceDyWeight:
    assert options.start is not None  # the options see to it
    start = dyweight.SolverFile.read(options.start).solver
    expected = network.checkpoint.schedule(steps).to("cpu", torch.float64)
    if len(start.sigmas) != len(expected) or not torch.allclose(start.sigmas, expected, rtol=1e-3, atol=1e-6):
        raise TrainerError(
            f"--start {options.start} has {start.steps} steps from sigma {float(start.sigmas[0]):g}; this run has "
            f"{steps} from {float(expected[0]):g}, on another schedule: distil one with the same options first"
        )
    try:
        return InstanceDyWeight(
            start,
            tuple(network.checkpoint.shape),
            _condition_width(options, network),
            instance=options.instance,
            shift_factors=options.shift_factors,
            seed=options.seed,
        )
    except ValueError as error:
        raise TrainerError(f"--start {options.start}: {error}") from error


def _condition_width(options: DistillOptions, network: Network) -> int:
    _, cond = network.checkpoint.draw(torch.Generator().manual_seed(0), 1)
    condition = network.condition(cond) if options.condition else None
    return 0 if condition is None else condition.shape[-1]


_MAKE: dict[str, Callable[[DistillOptions, int, Network], Solver]] = {
    DyWeight.family: _dyweight,
    Indis.family: _indis,
    LearnedSchedule.family: _learned_schedule,
    FreeTable.family: _free_table,
}
