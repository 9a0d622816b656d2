"""Does one file serve another model? Coefficients made on one model and used on another (DyWeight, table A.1), and on
a FLUX with another size, guidance, shift or a LoRA.

The weights and the time scale of a solver are carried to the other model's own schedule of as many steps. All errors
are relative endpoint errors on unseen samples of the model that is sampled.
"""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dyweight import Plan, Solver
from dyweight.placement import place
from trainer.checkpoints.comfy.installation import find_comfyui
from trainer.checkpoints.protocol import Checkpoint
from trainer.run.errors import CheckpointError, NonFiniteError

from .common import SAMPLES, TINY_FLUX, Bench, Options, parse, print_table, read_numbers, timed, write_numbers
from .transfer_figure import figure

STUDY = "transfer"
FLUX = "tiny-flux"
OURS = "benchmarks.models:"
MODELS = ("digits", *(f"{OURS}digits_{kind}" for kind in ("shifted", "guided", "exploding")), "gmm", "shapes", FLUX)
QUICK_MODELS = (MODELS[0], MODELS[1], MODELS[3])
STEPS, QUICK_STEPS, FLUX_STEPS = (3, 5), (3,), 5
METHODS: dict[str, dict[str, Any]] = {"gauss-newton": {}, "adam": {"method": "adam", "pairs": 2000}}
"""The default, which takes any weights that give a small error, and the paper's, which stays near those that it begins
with."""
SLOW, SLOW_SAMPLES, SLOW_FIT = ("shapes",), 50, {"pairs": 16}
"""Models whose network calls take long: fewer samples and pairs, and Adam leaves them out."""
QUICK_METHODS: dict[str, dict[str, Any]] = {"gauss-newton": {"pairs": 16, "iterations": 2}}
FLUX_FIT: dict[str, Any] = {"pairs": 32, "batch": 16}
"""Fewer and larger network calls than by default, which few cores like better."""
FLUX_SAMPLES = 100
LORA = TINY_FLUX.with_name("tiny-flux-lora.safetensors")
VARIANTS: dict[str, dict[str, Any]] = {
    "as made": {},
    "width 96": {"width": 96},
    "width 128": {"width": 128},
    "guidance 1": {"guidance": 1.0},
    "guidance 7": {"guidance": 7.0},
    "shift 0.5": {"shift": 0.5},
    "LoRA at 0.5": {"lora": (f"{LORA}:0.5",)},
    "LoRA at 1": {"lora": (f"{LORA}:1",)},
}
"""Of the tiny FLUX, which is made for width 64, guidance 3.5, shift 1.15 and no LoRA."""
KINDS = {
    "coefficients": "weights on the sampled model's schedule",
    "own schedule": "each solver on its own schedule",
    "placed": "on the sampled model's schedule by the rules of the nodes",
}
"""Of carrying a solver to another model."""
Errors = list[float | None]
"""One for each seed; None where there is no plan, or the network overflows."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse(STUDY, __doc__, arguments, MODELS, quick_models=QUICK_MODELS)
    timed(lambda: study(options))
    return 0


def study(options: Options) -> None:
    """The matrix of all models but the FLUX, and the variants of the FLUX. What an earlier run wrote stays."""
    numbers = read_numbers(options.out, STUDY)
    small = [model for model in options.models if model != FLUX]
    if small:
        benches = {
            model.removeprefix(OURS): Bench(model, options.quick, samples=SLOW_SAMPLES if model in SLOW else SAMPLES)
            for model in small
        }
        steps, methods = (QUICK_STEPS, QUICK_METHODS) if options.quick else (STEPS, METHODS)
        for method, more in methods.items():
            chosen = {name: bench for name, bench in benches.items() if method != "adam" or name not in SLOW}
            numbers[method] = {f"{n}": matrix(chosen, n, options.seeds, more) for n in steps}
            print_matrices(method, numbers[method])
    if FLUX in options.models and has_comfyui():
        numbers[FLUX] = variants(options)
        print_variants(numbers[FLUX])
    write_numbers(options.out, STUDY, numbers)
    if options.out is not None and numbers:
        matrices = {method: numbers[method] for method in METHODS if method in numbers}
        figure(matrices, numbers.get(FLUX, {}), options.out / f"study-{STUDY}.png")


def matrix(
    benches: Mapping[str, Bench], steps: int, seeds: Sequence[int], more: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Model that is sampled -> errors of the handcrafted solvers, of its own, and of each model's coefficients.

    coefficients: weights and time scale on the model's schedule, the paper's way. own schedule: the solver with the
    schedule it was made on, as the scheduler `dyweight` runs it, where that begins at the model's noise level.
    placed: on the model's schedule by the rules of the nodes, which carry the learned times where the weights would
    run away (docs/schedules.md).
    """
    solvers = {
        name: [
            bench.fit(steps, seed, **{**more, **(SLOW_FIT if name in SLOW else {})}).solver.requires_grad_(False)
            for seed in seeds
        ]
        for name, bench in benches.items()
    }
    return {
        name: {
            "handcrafted": bench.handcrafted_errors(steps),
            "native": errors(bench, solvers[name]),
            "coefficients": {of: errors(bench, _carried(made, bench)) for of, made in solvers.items()},
            "own schedule": {of: errors(bench, _on_its_own(made, bench)) for of, made in solvers.items()},
            "placed": {of: errors(bench, _placed(made, bench)) for of, made in solvers.items()},
        }
        for name, bench in benches.items()
    }


def carried(solver: Solver, checkpoint: Checkpoint) -> Plan | None:
    """The solver's weights and time scale on the checkpoint's schedule; None where they reach time 0 too early."""
    try:
        return solver.plan(checkpoint.schedule(len(solver.sigmas) - 1))
    except ValueError:
        return None


def _carried(solvers: Iterable[Solver], bench: Bench) -> list[Plan | None]:
    return [carried(solver, bench.checkpoint) for solver in solvers]


def _on_its_own(solvers: Iterable[Solver], bench: Bench) -> list[Plan | None]:
    start = float(bench.checkpoint.schedule(1)[0])
    return [solver.plan() if math.isclose(float(solver.sigmas[0]), start) else None for solver in solvers]


def _placed(solvers: Iterable[Solver], bench: Bench) -> list[Plan]:
    return [place(solver, bench.checkpoint.schedule(len(solver.sigmas) - 1)).plan for solver in solvers]


def errors(bench: Bench, samplers: Iterable[Plan | Solver | None]) -> Errors:
    """Of each sampler on the model of the bench."""
    return [None if sampler is None else _error(bench, sampler) for sampler in samplers]


def _error(bench: Bench, sampler: Plan | Solver) -> float | None:
    try:
        return bench.error(sampler)
    except NonFiniteError:
        return None


def has_comfyui() -> bool:
    """Whether the part on FLUX can run; says why not."""
    try:
        find_comfyui(None)
    except CheckpointError as error:
        print(f"\n{FLUX} is left out: {error}")
        return False
    return True


def variants(options: Options) -> dict[str, dict[str, Any]]:
    """Variant -> errors of the handcrafted solvers, of the variant's own, and of those of the model as made.

    foreign: on the variant's schedule. own schedule: on the file's, as the scheduler `dyweight` gives it; with another
    shift that is another. placed: on the variant's schedule by the rules of the nodes.
    """
    found: dict[str, dict[str, Any]] = {}
    made: list[Solver] = []
    for name, named in VARIANTS.items():
        bench = Bench(FLUX, options.quick, samples=FLUX_SAMPLES, **named)
        native = [bench.fit(FLUX_STEPS, seed, **FLUX_FIT).solver.requires_grad_(False) for seed in options.seeds]
        made = made or native
        found[name] = {
            "handcrafted": bench.handcrafted_errors(FLUX_STEPS),
            "native": errors(bench, native),
            "foreign": errors(bench, _carried(made, bench)),
            "own schedule": errors(bench, _on_its_own(made, bench)),
            "placed": errors(bench, _placed(made, bench)),
        }
    return found


def print_matrices(method: str, found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """For each number of steps the errors as the paper carries weights, then as the nodes do."""
    for steps, rows in found.items():
        for kind, title in KINDS.items():
            print(f"\n{method}, {steps} steps, {title}: rows are sampled, columns are where the coefficients were made")
            print_table(
                ["model", *rows, "iPNDM", "best handcrafted"],
                (
                    [name, *(cell(row[kind][of]) for of in rows), f"{row['handcrafted']['ipndm']:.3g}", best(row)]
                    for name, row in rows.items()
                ),
            )


def print_variants(found: Mapping[str, Mapping[str, Any]]) -> None:
    """A row for each variant."""
    print(f"\n{FLUX}, {FLUX_STEPS} steps: the coefficients of the model as made, used on its variants")
    print_table(
        ["variant", "foreign", "native", "foreign, file's own schedule", "foreign, nodes' rules", "best handcrafted"],
        (
            [name, *(cell(row[kind]) for kind in ("foreign", "native", "own schedule", "placed")), best(row)]
            for name, row in found.items()
        ),
    )


def best(row: Mapping[str, Any]) -> str:
    """The best handcrafted solver of a row and its error."""
    name, error = next(iter(row["handcrafted"].items()))
    return f"{name} {error:.3g}"


def cell(values: Sequence[float | None]) -> str:
    """`mean (smallest to largest)` of those that exist, with three digits that count."""
    finite = [value for value in values if value is not None]
    if not finite:
        return "no plan"
    text = f"{sum(finite) / len(finite):.3g}"
    if len(values) > 1:
        text += f" ({min(finite):.3g} to {max(finite):.3g})"
    return text if len(finite) == len(values) else f"{text}, {len(values) - len(finite)} without a plan"


if __name__ == "__main__":
    sys.exit(main())
