"""What the untrained solver is chosen by: iPNDM of orders 2 and 3, with the weights of equal and of the real steps.

Errors are relative endpoint errors on unseen samples, on each model's own schedule and on others with the same ends.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from dyweight import baselines, schedules
from dyweight.between import untrained_order as runs

from ..harness.bench import FLUX, Bench, without_flux
from ..harness.study import Numbers, Options, Study, Tables, table

MODELS = ("gmm", "shapes", "digits", "benchmarks.models:digits_guided", FLUX)
SOLVERS = ("ipndm", "ipndm_v")
ORDERS = (2, 3)
STEPS, QUICK_STEPS = range(3, 12), range(3, 5)
SAMPLES, SLOW = 400, {"shapes": 100, FLUX: 50}
"""Unseen samples, fewer where a network call is dear."""
LONGEST = {FLUX: 7}
Schedule = Callable[[int], Tensor]
FLOW: Mapping[str, Schedule] = {
    "shift 3": lambda steps: schedules.flow(steps, 3.0),
    "karras": lambda steps: torch.cat([schedules.polynomial(steps - 1, 0.001, 1.0), torch.zeros(1).double()]),
}
"""Other schedules of a flow, from 1 to 0; karras as ComfyUI has it."""
EXPLODING: Mapping[str, Schedule] = {"even in log sigma": schedules.log_snr, "even in VP time": schedules.vp_uniform}
"""Of a variance-exploding model whose own is karras, from 80 to 0.002."""


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Model -> samples, and schedule -> solver and order -> steps -> error."""
    for model in without_flux(options.models):
        bench = Bench(model, options.quick, samples=SLOW.get(model, SAMPLES))
        own = bench.checkpoint.schedule
        is_flow = abs(float(own(1)[0]) - 1) < 1e-6
        every: dict[str, Schedule] = {"own": own, **(FLOW if is_flow else EXPLODING)}
        steps = [n for n in (QUICK_STEPS if options.quick else STEPS) if n <= LONGEST.get(model, n)]
        errors = {
            name: {
                f"{solver}:{order}": {
                    n: bench.error(baselines.plan(solver, schedule(n).double(), order)) for n in steps
                }
                for solver in SOLVERS
                for order in ORDERS
            }
            for name, schedule in every.items()
        }
        yield model.rpartition(":")[2], {"samples": sum(len(block.noise) for block in bench.blocks), "errors": errors}


def tables(numbers: Numbers) -> Tables:
    """Ratios of errors by model, schedule and steps: of the two kinds of weights, and of the two orders."""
    return {
        "weights": of_ratios(numbers, lambda steps: (f"ipndm:{runs(steps)}", f"ipndm_v:{runs(steps)}")),
        "orders": of_ratios(numbers, lambda steps: ("ipndm:2", "ipndm:3")),
    }


def of_ratios(numbers: Numbers, solvers: Callable[[int], tuple[str, str]]) -> str:
    """The error of one solver over that of another. solvers: steps -> the two."""
    steps = sorted({int(n) for found in numbers.values() for n in found["errors"]["own"]["ipndm:2"]})
    rows = []
    for model, found in numbers.items():
        for schedule, by in found["errors"].items():
            pairs = {n: [by[solver].get(str(n)) for solver in solvers(n)] for n in steps}
            ratios = ["" if None in pair else f"{pair[0] / pair[1]:.2f}" for pair in pairs.values()]
            rows.append([f"`{model}`", schedule, *ratios])
    return table(["model", "schedule", *map(str, steps)], rows)


STUDY = Study("untrained", __doc__, measure, tables, models=MODELS, quick_models=("digits",), seeds=0)
