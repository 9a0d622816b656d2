"""Comparison with other samplers: handcrafted ones, ComfyUI's own, learned schedules and free tables (tables 1 and A.5
to A.9).

Endpoint error over 3 to 10 network calls, and the number of calls with which each rival equals DyWeight at 5. All
learned families are fitted by Gauss-Newton with its defaults, two of them by Adam too. `--quick` leaves out ComfyUI's
samplers.
"""

import copy
import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from dyweight import Plan, baselines, schedules
from trainer.checkpoints.comfy.checkpoint import ComfyCheckpoint
from trainer.compare.endpoint_error import error_or_infinity
from trainer.compare.handcrafted import solvers
from trainer.report import curves

from ..harness.bench import FLUX, Bench, use_stand_ins
from ..harness.study import Numbers, Options, Study, Tables, significant, table
from . import comfy_samplers

MODELS = ("digits", "gmm", "shapes", FLUX)
ADAM: Mapping[str, Any] = {"method": "adam", "pairs": 2000}
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "dyweight": {"family": "dyweight"},
    "learned-schedule": {"family": "learned-schedule"},
    "learned-schedule of dpmpp_2m": {"family": "learned-schedule", "base": "dpmpp_2m"},
    "free-table": {"family": "free-table"},
    "dyweight by adam": {"family": "dyweight", **ADAM},
    "learned-schedule by adam": {"family": "learned-schedule", **ADAM},
}
"""Family -> the trainer's options for it; without a base it is ipndm, without a method gauss-newton."""
CALLS, FITTED, SAMPLES = range(3, 11), (5, 7), 200
REFERENCE, MOST_CALLS = 5, 40
"""The number of calls of the DyWeight that a rival must equal, and the most calls with which it may."""
SLOW: Mapping[str, tuple[int, tuple[int, ...]]] = {"shapes": (100, (3, 5)), FLUX: (50, (3, 5))}
"""Samples and fitted numbers of steps for models with expensive calls."""
SCHEDULERS = ("beta", "karras")
"""ComfyUI's schedulers besides the model's own, for models of ComfyUI."""
ON_LOG_SNR = ("dpmpp_2m", "dpmpp_3m", "unipc")
"""Those that the paper runs on noise levels even in log sigma, in addition to the model's own schedule."""
COLORS = (curves.WARM, "#e69f00", "#f0c987", "#8a3b12", "#7b5ea7", "#c3b1e1")
SHOWN = ("euler", "ipndm:2", "ipndm:3", "dpmpp_2m", "dpmpp_3m", "unipc:3", "deis", "res_multistep", "er_sde")

Maker = Callable[[int], Plan]
"""steps -> the table of a rival."""


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Model -> the result of `measured`."""
    why = "--quick does not run them" if options.quick else _missing()
    if why is not None:
        print(f"ComfyUI's own samplers are left out: {why}")
    for model in options.models:
        if model == FLUX and why is not None:
            print(f"{model} is left out: it needs ComfyUI")
        else:
            yield model, measured(model, options, with_comfyui=why is None)


def _missing() -> str | None:
    use_stand_ins()
    return comfy_samplers.missing()


def measured(model: str, options: Options, with_comfyui: bool) -> dict[str, Any]:
    """errors: rival -> network calls -> error. learned: family -> steps -> errors by seed. equal: rival or family ->
    the number of calls with which it equals DyWeight at REFERENCE, None if MOST_CALLS do not suffice."""
    samples, fitted = SLOW.get(model, (SAMPLES, FITTED))
    calls, budget = CALLS, dict[str, Any]()
    if options.quick:
        fitted, calls, budget = (3, REFERENCE), range(3, 6), {"pairs": 8, "iterations": 1}
    bench = Bench(model, options.quick, samples=samples)
    learned: dict[str, dict[int, list[float]]] = {family: {} for family in FAMILIES}
    for family, given in FAMILIES.items():
        for steps in fitted:
            fits = (bench.fit(steps, seed, **{**given, **budget}) for seed in options.seeds)
            learned[family][steps] = [bench.error(fit.solver) for fit in fits]
    target = statistics.mean(learned["dyweight"][REFERENCE])
    errors, equal = {}, {}
    for name, make in rivals(bench, with_comfyui).items():
        error = cache(partial(_error, bench, make))
        errors[name] = {n: error(steps) for steps, n in _steps_of(make, calls).items()}
        equal[name] = calls_to_equal(make, error, target)
    for family, by_steps in learned.items():
        equal[family] = min((n for n, found in by_steps.items() if statistics.mean(found) <= target), default=None)
    return {
        "samples": sum(len(block.noise) for block in bench.blocks),
        "errors": errors,
        "learned": learned,
        "equal": equal,
    }


def rivals(bench: Bench, with_comfyui: bool) -> dict[str, Maker]:
    """Handcrafted solvers on the model's schedule and on log-SNR, and ComfyUI's samplers on ComfyUI's schedules too."""
    checkpoint = bench.checkpoint
    flow = (checkpoint.prediction_type or "").startswith("flow")

    def of_comfyui(name: str, schedule: Callable[[int], Tensor], steps: int) -> Plan:
        return comfy_samplers.plan(name, schedule(steps), flow)

    found: dict[str, Maker] = {
        row: partial(_on, name, checkpoint.schedule, order=order) for row, (name, order) in solvers().items()
    }
    recipe = checkpoint.schedule_recipe or {}
    if recipe.get("kind") == "polynomial":
        even = partial(schedules.log_snr, sigma_min=recipe["sigma_min"], sigma_max=recipe["sigma_max"])
        for name in ON_LOG_SNR:
            found[f"{name}/log-SNR"] = partial(_on, name, even)
    for name in comfy_samplers.OWN if with_comfyui else ():
        found[f"comfyui {name}"] = partial(of_comfyui, name, checkpoint.schedule)
    own = checkpoint.made
    if isinstance(own, ComfyCheckpoint):
        for scheduler in SCHEDULERS:
            other = copy.copy(own)
            other.options = dataclasses.replace(own.options, scheduler=scheduler)
            for name in comfy_samplers.NAMES:
                found[f"comfyui {name}/{scheduler}"] = partial(of_comfyui, name, other.schedule)
    return found


def calls_to_equal(make: Maker, error: Callable[[int], float], target: float) -> int | None:
    """Network calls of the fewest steps with an error of at most target, None if MOST_CALLS do not suffice.

    make, error: functions of the number of steps. By bisection: one step less is worse, and the number is the smallest
    if errors fall with the steps.
    """
    low, high = 1, MOST_CALLS
    while make(high).network_calls > MOST_CALLS:
        high -= 1
    if error(high) > target:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if error(middle) <= target else (middle, high)
    return make(high).network_calls


def _on(name: str, schedule: Callable[[int], Tensor], steps: int, order: int | None = None) -> Plan:
    return baselines.plan(name, schedule(steps), order)


def _steps_of(make: Maker, calls: range) -> dict[int, int]:
    """steps -> network calls, for the wanted numbers of calls."""
    made = {steps: make(steps).network_calls for steps in range(2, calls.stop)}
    return {steps: n for steps, n in made.items() if n in calls}


def _error(bench: Bench, make: Maker, steps: int) -> float:
    return error_or_infinity(bench.network, bench.blocks, make(steps), bench.features)


def tables(numbers: Numbers) -> Tables:
    """Every solver on every model at REFERENCE calls, and the learned ones over the calls."""
    families = dict.fromkeys(family for found in numbers.values() for family in found["learned"])
    others = dict.fromkeys(name for found in numbers.values() for name in found["errors"])
    at_reference = [
        *([f"**{family}**", *(_at_reference(found, family) for found in numbers.values())] for family in families),
        *([name, *(_at_reference(found, name) for found in numbers.values())] for name in others),
    ]
    counts = [str(n) for n in sorted({int(n) for found in numbers.values() for n in found["learned"]["dyweight"]})]
    learned = [
        [f"`{model}`", family, *(significant(by_steps[n]) if n in by_steps else "" for n in counts)]
        for model, found in numbers.items()
        for family, by_steps in found["learned"].items()
    ]
    return {
        f"at {REFERENCE} calls": table(["solver", *(f"`{model}`" for model in numbers)], at_reference),
        "learned": table(["model", "solver", *(f"{n} calls" for n in counts)], learned),
    }


def _at_reference(found: Mapping[str, Any], name: str) -> str:
    """The error, and after the comma the number of calls to equal DyWeight."""
    if name not in found["equal"]:
        return ""
    errors = found["learned"].get(name, found["errors"].get(name, {})).get(str(REFERENCE), [])
    mean = errors if isinstance(errors, float) else statistics.mean(errors) if errors else math.nan
    return f"{'-' if math.isnan(mean) else f'{mean:.5f}'}, {_calls(found['equal'], name)}"


def _calls(equal: Mapping[str, int | None], name: str) -> str:
    if equal[name] is None:
        return "none of these" if name in FAMILIES else f"> {MOST_CALLS}"
    return f"{equal[name]}"


def draw(numbers: Numbers, folder: Path) -> None:
    """A panel for each model: endpoint error over network calls."""
    columns = 2 if len(numbers) > 1 else 1
    rows = -(-len(numbers) // columns)
    title = "Endpoint error over network calls"
    figure, _ = curves.new_figure(2.6 * rows + 1.4, title, [1.0] * rows, columns)
    panels: list[Any] = figure.axes
    for axes in panels[len(numbers) :]:
        axes.remove()
    for axes, (model, found) in zip(panels, numbers.items(), strict=False):
        for name, style in curves.styles(SHOWN).items():
            line = _numbered(found["errors"].get(name, found["errors"].get(f"comfyui {name}", {})))
            axes.plot([*line], [*line.values()], lw=0.9, ms=3, label=name, **style)
        for family, color in zip(FAMILIES, COLORS, strict=True):
            line = {n: statistics.mean(errors) for n, errors in _numbered(found["learned"][family]).items()}
            axes.plot([*line], [*line.values()], "-o", color=color, lw=1.8, ms=6, mec="white", label=family, zorder=4)
        axes.set(yscale="log", xlim=(2.6, 10.4), xticks=list(CALLS))
        axes.set_title(model, loc="left", fontsize=curves.TEXT, color=curves.INK)
        axes.yaxis.set_major_formatter("{x:g}")
    # Diverging solvers are above the picture.
    floor = min(axes.get_ylim()[0] for axes in panels[: len(numbers)])
    panels[0].set_ylim(floor, 3)
    for axes in panels[: len(numbers)][-columns:]:
        axes.set_xlabel("network calls (NFE)")
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=curves.SMALL)
    curves.write(figure, folder / "study-rivals.png")


def _numbered(line: Mapping[Any, Any]) -> dict[int, Any]:
    """Counts as numbers, which are texts in JSON."""
    return dict(sorted((int(n), value) for n, value in line.items()))


STUDY = Study("rivals", __doc__, measure, tables, draw, MODELS, quick_models=MODELS[:1])
