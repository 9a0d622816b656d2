"""Learned guidance at equal network evaluations: against DyWeight and handcrafted samplers with constant guidance, and
with guidance in an interval.

A call with guidance is two evaluations. All samplers are compared with the teacher at constant scale, on unseen noises.
"""

import argparse
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from dyweight import Plan
from trainer.compare.endpoint_error import error_or_infinity
from trainer.compare.handcrafted import handcrafted
from trainer.losses.features import Latent
from trainer.pairs.pairs import deviation
from trainer.run.network import Network

from ..harness.bench import Bench
from ..harness.study import Numbers, Options, Study, Tables, significant, table

MODELS = ("benchmarks.models:digits_guided",)
EVALUATIONS = (6, 8, 10)
CALLS = 40_000
"""Evaluations of each fit."""
STRENGTHS = (1.0, 1.25, 1.5, 2.0)
"""Of guidance in an interval, in the teacher's: each handcrafted sampler gets the one that suits it best."""
SCREENED = ((50, 12), (250, 1))
"""Samples by which the best handcrafted sampler is found, of those that measure it, and how many go on."""
CONSTANT, EVERY, FEWER = "DyWeight, constant guidance", "learned guidance, every step", "learned guidance, fewer calls"
PLACES = ("first", "middle", "last")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--evaluations", type=int, nargs="+", default=list(EVALUATIONS), help="(%(default)s)")
    parser.add_argument("--calls", type=int, default=CALLS, help="evaluations of each fit (%(default)s)")


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """`model, evaluations` -> sampler -> its errors, and which it was."""
    every = (6,) if options.quick else options.more.evaluations
    calls = 6_000 if options.quick else options.more.calls
    for model in options.models:
        bench = Bench(model, options.quick)
        for evaluations in every:
            found: dict[str, Any] = {
                "best handcrafted, constant guidance": best(bench, constant(bench, evaluations)),
                **{
                    f"best handcrafted, guidance in the {place} steps": best(bench, interval(bench, evaluations, place))
                    for place in PLACES
                },
            }
            steps = evaluations // 2
            ways: Mapping[str, tuple[int, dict[str, Any]]] = {
                CONSTANT: (steps, {"calls": calls // 2}),
                EVERY: (steps, {"calls": calls, "learn_guidance": True}),
                FEWER: (steps + 1, {"calls": calls, "learn_guidance": True, "unconditional_calls": steps - 1}),
            }
            for name, (own, given) in ways.items():
                found[name] = [learned(bench, own, seed, given) for seed in options.seeds]
            yield f"{model.rpartition(':')[2]}, {evaluations} evaluations", found


def learned(bench: Bench, steps: int, seed: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """A fitted solver: its error, its evaluations and its guided steps."""
    solver = bench.fit(steps, seed, **given).solver
    each = solver.evaluations if solver.guided else 2 * solver.network_calls
    return {"error": bench.error(solver), "evaluations": each, "guided": list(solver.guided), "family": solver.family}


def constant(bench: Bench, evaluations: int) -> dict[str, Plan]:
    """The handcrafted samplers at every order, each call guided."""
    return handcrafted(bench.checkpoint, evaluations // 2)


def interval(bench: Bench, evaluations: int, place: str) -> dict[str, Plan]:
    """The same with more steps, of which only those at the place are guided, at every strength."""
    cfg, plans = bench.checkpoint.cfg, dict[str, Plan]()
    assert cfg is not None
    for steps in range(evaluations // 2 + 1, evaluations):
        guided = evaluations - steps
        first = {"first": 0, "middle": (steps - guided) // 2, "last": steps - guided}[place]
        rows = tuple(range(first, first + guided))
        for name, plan in handcrafted(bench.checkpoint, steps).items():
            mask = torch.zeros(steps, dtype=torch.float64)
            mask[list(rows)] = 1
            for strength in STRENGTHS:
                guidance = -plan.gains * mask * (cfg - 1) * strength
                plans[f"{name}, {steps} steps, {guided} guided, strength {strength:g}"] = replace(
                    plan, guidance=guidance, guided=rows
                )
    return plans


def best(bench: Bench, plans: Mapping[str, Plan]) -> dict[str, Any]:
    """The best of them, found on the first samples and measured on all."""
    network, names, errors = Network(bench.checkpoint), list(plans), dict[str, float]()
    for samples, kept in SCREENED:
        few = bench.blocks[: max(1, samples // len(bench.blocks[0].noise))]
        features = Latent(deviation(few))
        errors = {name: error_or_infinity(network, few, plans[name], features) for name in names}
        names = sorted(names, key=errors.__getitem__)[:kept]
    (name,) = names
    return {"name": name, "error": bench.error(plans[name]) if math.isfinite(errors[name]) else None}


def tables(numbers: Numbers) -> Tables:
    """One for each model: samplers and numbers of evaluations."""
    models = dict.fromkeys(part.partition(", ")[0] for part in numbers)
    return {model: _of_model({k: v for k, v in numbers.items() if k.startswith(f"{model}, ")}) for model in models}


def _of_model(parts: Mapping[str, Mapping[str, Any]]) -> str:
    parts = dict(sorted(parts.items(), key=lambda part: int(part[0].split()[-2])))
    samplers = list(dict.fromkeys(name for found in parts.values() for name in found))
    lines = [[name, *(_cell(found.get(name)) for found in parts.values())] for name in samplers]
    for name in (EVERY, FEWER):
        cells = [_below(found, name) for found in parts.values()]
        lines.append([f"{name}: median below DyWeight's", *cells])
    return table(["sampler", *(part.partition(", ")[2] for part in parts)], lines)


def _cell(found: Any) -> str:
    if isinstance(found, Mapping):
        return "none" if found["error"] is None else f"{found['error']:.3g} ({found['name']})"
    return significant(one["error"] for one in found)


def _below(found: Mapping[str, Any], name: str) -> str:
    medians = [statistics.median(_errors(found[one])) for one in (name, CONSTANT)]
    return f"{100 * (1 - medians[0] / medians[1]):.0f} %"


def _errors(found: Sequence[Mapping[str, Any]]) -> list[float]:
    return [one["error"] for one in found]


STUDY = Study("guidance", __doc__, measure, tables, models=MODELS, add_options=add_options)
