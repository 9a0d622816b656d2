"""Table 1 of the paper on photographs: handcrafted and learned solvers at 3 to 10 network calls, with and without
guidance.

Each sampler draws the same samples; their distance from real photographs is the Fréchet distance of the judge's
features, whose formula is FID's and whose network is not, and their endpoint error is against the teacher. `--methods`
and `--calls` run a part of it: a method's figures replace those that were kept of it.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from dyweight import Plan
from trainer.checkpoints.builtin.photographs_judge import Judge, judge
from trainer.compare.endpoint_error import Sampler, endpoint
from trainer.compare.handcrafted import handcrafted
from trainer.compare.image_metrics import Statistics
from trainer.pairs.pairs import deviation
from trainer.run.errors import NonFiniteError

from ..harness.bench import Bench
from ..harness.frechet import Gaussian, frechet_distance
from ..harness.study import Numbers, Options, Study, Tables, significant, table
from .photographs_figure import draw

MODELS = ("photographs", "benchmarks.models:photographs_guided")
CALLS = range(3, 11)
SAMPLES = 10_000
TEACHER = "ipndm:100"
DYWEIGHT: Mapping[str, Mapping[str, Any]] = {
    "dyweight, draft": {"effort": "draft"},
    "dyweight, normal": {"effort": "normal"},
    # The paper's settings: 10,000 pairs, batches of 16 and the loss on a classifier's features.
    "dyweight, adam": {"method": "adam", "loss": "features"},
    "dyweight, instance-aware": {"instance_aware": True},
}
"""Name -> options of the trainer. Each is fitted with and without the analytic first step."""
OTHERS: Mapping[str, Mapping[str, Any]] = {
    "indis": {"family": "indis"},
    "learned-schedule": {"family": "learned-schedule"},
    "free-table": {"family": "free-table"},
}
ANALYTIC = ", analytic first step"
METHODS: Mapping[str, Mapping[str, Any]] = {
    **DYWEIGHT,
    **{f"{name}{ANALYTIC}": {**given, "analytic_first_step": True} for name, given in DYWEIGHT.items()},
    **OTHERS,
}
TEACHERS, HANDCRAFTED = "teacher", "handcrafted"
QUICK_METHODS, QUICK_CALLS = (TEACHERS, HANDCRAFTED, f"dyweight, adam{ANALYTIC}"), (3,)
QUICK = {"pairs": 32, "validation_pairs": 16}
Found = Mapping[str, float | None]
"""error and distance of a sampler, both None where it drives the network to values that are not finite."""


def add_options(parser: argparse.ArgumentParser) -> None:
    names = (TEACHERS, HANDCRAFTED, *METHODS)
    parser.add_argument("--methods", nargs="+", choices=names, metavar="NAME", help=f"by default {'; '.join(names)}")
    parser.add_argument("--calls", type=int, nargs="+", help=f"network calls, by default {CALLS[0]} to {CALLS[-1]}")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of each sampler (%(default)s)")


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """`model: method` -> samples, and the found values: row -> network calls -> one for each seed."""
    every_calls = options.more.calls or (QUICK_CALLS if options.quick else CALLS)
    methods = options.more.methods or (QUICK_METHODS if options.quick else (TEACHERS, HANDCRAFTED, *METHODS))
    for model in options.models:
        gallery = Gallery(model, options.quick, options.more.samples)
        for method in methods:
            yield (
                f"{model.rpartition(':')[2]}: {method}",
                {"samples": gallery.samples, "rows": rows(gallery, method, every_calls, options)},
            )


def rows(
    gallery: "Gallery", method: str, every_calls: Sequence[int], options: Options
) -> dict[str, dict[int, list[Found]]]:
    """What a method finds: one row, or for the handcrafted solvers one for each at every order."""
    if method == TEACHERS:
        return {f"teacher, {TEACHER}": {int(TEACHER.rpartition(":")[2]): [gallery.teacher()]}}
    found: dict[str, dict[int, list[Found]]] = {}
    for calls in every_calls:
        if method == HANDCRAFTED:
            for name, plan in handcrafted(gallery.bench.checkpoint, calls).items():
                found.setdefault(name, {})[calls] = [gallery.found(plan)]
        else:
            found.setdefault(method, {})[calls] = [
                gallery.found(fitted(gallery.bench, METHODS[method], calls, seed, options.quick))
                for seed in options.seeds
            ]
    return found


def fitted(bench: Bench, method: Mapping[str, Any], calls: int, seed: int, quick: bool) -> Sampler:
    """A solver of so many network calls."""
    analytic = bool(method.get("analytic_first_step"))
    steps, few = calls + analytic, QUICK if quick else {}
    if not method.get("instance_aware"):
        return bench.fit(steps, seed, **method, **few).solver
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start.safetensors"
        bench.fit(steps, seed, analytic_first_step=analytic, out=start, **few)
        return bench.fit(steps, seed, start=start, **method, **few).solver


class Gallery:
    """A model's samples from the same noises by any sampler, and what the judge makes of them."""

    def __init__(self, model: str, quick: bool, samples: int) -> None:
        self.bench = Bench(model, quick, TEACHER, samples)
        self._known: dict[str, Found] = {}

    @cached_property
    def samples(self) -> int:
        """How many each sampler draws."""
        return sum(len(block.noise) for block in self.bench.blocks)

    @cached_property
    def _judge(self) -> Judge:
        return judge()

    @cached_property
    def _variance(self) -> float:
        return deviation(self.bench.blocks) ** 2

    def teacher(self) -> Found:
        """Of the teacher's own endpoints: the floor."""
        statistics = Statistics()
        for block in self.bench.blocks:
            self._see(statistics, block.target)
        return {"error": 0.0, "distance": self._distance(statistics)}

    def found(self, sampler: Sampler) -> Found:
        """Endpoint error and distance; of tables that are the same, as euler's and ipndm:1's, one is run for all."""
        if not isinstance(sampler, Plan):
            return self._found(sampler)
        numbers = str([part.tolist() for part in (sampler.sigmas, sampler.query_sigmas, sampler.gains)])
        if numbers not in self._known:
            self._known[numbers] = self._found(sampler)
        return self._known[numbers]

    def _found(self, sampler: Sampler) -> Found:
        statistics, squares, count = Statistics(), 0.0, 0
        try:
            for block in self.bench.blocks:
                end = endpoint(self.bench.network, block, sampler)
                squares, count = squares + float((end - block.target).double().square().sum()), count + end.numel()
                self._see(statistics, end)
        except NonFiniteError:
            return {"error": None, "distance": None}
        return {"error": squares / count / self._variance, "distance": self._distance(statistics)}

    def _see(self, statistics: Statistics, x: Tensor) -> None:
        """Rounded to 8 bits, as photographs are."""
        images = self.bench.checkpoint.images(x)
        assert images is not None
        statistics.add(self._judge.to(x.device)((images * 255).round().movedim(-1, 1).float() / 255))

    def _distance(self, statistics: Statistics) -> float:
        reference: Gaussian = (self._judge.mean.cpu().double().numpy(), self._judge.covariance.cpu().double().numpy())
        return frechet_distance(statistics.gaussian(), reference)


def tables(numbers: Numbers) -> Tables:
    """For each model its distances and its errors."""
    models = dict.fromkeys(part.partition(": ")[0] for part in numbers)
    return {
        f"{model}, {title}": of_model([found for part, found in numbers.items() if part.startswith(f"{model}: ")], what)
        for model in models
        for what, title in (("distance", "Fréchet distance"), ("error", "endpoint error"))
    }


def of_model(parts: Sequence[Mapping[str, Any]], what: str) -> str:
    """A row a sampler, a column a number of network calls; the teacher's one value stands in each."""
    found = {name: by_calls for part in parts for name, by_calls in part["rows"].items()}
    others = [by_calls for name, by_calls in found.items() if not name.startswith(TEACHERS)] or list(found.values())
    every_calls = sorted({int(calls) for by_calls in others for calls in by_calls})
    lines = []
    for name, by_calls in found.items():
        if name.startswith(TEACHERS):
            by_calls = dict.fromkeys(map(str, every_calls), *by_calls.values())
        cells = (
            significant(one[what] for one in by_calls[str(calls)]) if str(calls) in by_calls else ""
            for calls in every_calls
        )
        lines.append([name, *cells])
    return table(["sampler", *(f"{calls} calls" for calls in every_calls)], lines)


STUDY = Study("photographs", __doc__, measure, tables, draw, MODELS, MODELS[:1], add_options=add_options)
