"""Against what users would use: handcrafted samplers, ComfyUI's own among them, learned schedules and free tables
(tables 1 and A.5 to A.9).

Endpoint error over 3 to 10 network calls, and the calls at which each rival is as good as DyWeight is at 5. The three
learned families have one trainer, Gauss-Newton with its defaults. `--out` keeps the numbers of models that an earlier
run measured, and draws them too. `--quick` takes the first model only, and none of ComfyUI's samplers.
"""

import copy
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from dyweight import Plan, baselines, schedules
from trainer.checkpoints.comfy.checkpoint import ComfyCheckpoint
from trainer.compare.endpoint_error import error_or_infinity
from trainer.report import curves

from . import comfy_samplers
from .common import SAMPLES, Bench, Options, parse, print_table, spread, timed, write_numbers

MODELS = ("digits", "gmm", "shapes", "tiny-flux")
FAMILIES: Mapping[str, Mapping[str, str]] = {
    "dyweight": {"family": "dyweight"},
    "learned-schedule": {"family": "learned-schedule"},
    "learned-schedule of dpmpp_2m": {"family": "learned-schedule", "base": "dpmpp_2m"},
    "free-table": {"family": "free-table"},
}
"""Options of the trainer for what is learned; where no base is given, it is ipndm."""
CALLS, FITTED = range(3, 11), (3, 5, 7, 10)
REFERENCE, MOST_CALLS = 5, 40
"""How many calls of DyWeight a rival must equal, and up to how many calls that is looked for."""
SLOW: Mapping[str, tuple[int, tuple[int, ...]]] = {"shapes": (100, (3, 5, 7)), "tiny-flux": (50, (3, 5))}
"""Samples and fitted step counts where a call is dear."""
SCHEDULERS = ("beta", "karras")
"""Of ComfyUI, beside the model's own, where the model is one of ComfyUI's."""
ON_LOG_SNR = ("dpmpp_2m", "dpmpp_3m", "unipc")
"""Where the paper runs these on noise levels even in log sigma; the model's own schedule is the other."""
COLORS = (curves.WARM, "#e69f00", "#f0c987", "#8a3b12")
SHOWN = ("euler", "ipndm", "dpmpp_2m", "dpmpp_3m", "unipc", "deis", "res_multistep", "er_sde")

Maker = Callable[[int], Plan]
"""steps -> the table of a rival."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse("rivals", __doc__, arguments, MODELS, quick_models=MODELS[:1])
    numbers = _earlier(options.out)
    why = "--quick has no time for them" if options.quick else comfy_samplers.missing()
    if why is not None:
        print(f"ComfyUI's own samplers are left out: {why}")
    for model in options.models:
        if model == "tiny-flux" and why is not None:
            print(f"{model} is left out: it needs ComfyUI")
            continue
        numbers[model] = measured(model, options, with_comfyui=why is None)
        _print(model, numbers[model])
        write_numbers(options.out, "rivals", numbers)
        if options.out is not None:
            draw(numbers, options.out / "rivals.png")


def measured(model: str, options: Options, with_comfyui: bool) -> dict[str, Any]:
    """errors: rival -> network calls -> error. learned: family -> steps -> errors by seed. equal: rival or family ->
    the calls at which it equals DyWeight at REFERENCE, None where it does not up to MOST_CALLS."""
    began = time.monotonic()
    samples, fitted = SLOW.get(model, (SAMPLES, FITTED))
    calls, budget = CALLS, dict[str, Any]()
    if options.quick:
        fitted, calls, budget = (3, REFERENCE), range(3, 6), {"pairs": 16, "validation_pairs": 16, "iterations": 1}
    bench = Bench(model, options.quick, samples=samples)
    learned: dict[str, dict[int, list[float]]] = {family: {} for family in FAMILIES}
    for family, given in FAMILIES.items():
        for steps in fitted:
            fits = (bench.fit(steps, seed, method="gauss-newton", **given, **budget) for seed in options.seeds)
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
        "seeds": options.seeds,
        "seconds": time.monotonic() - began,
        "errors": errors,
        "learned": learned,
        "equal": equal,
    }


def rivals(bench: Bench, with_comfyui: bool) -> dict[str, Maker]:
    """Handcrafted solvers on the model's schedule and the one made for them, and ComfyUI's own on ComfyUI's too."""
    checkpoint = bench.checkpoint
    flow = str(getattr(checkpoint, "prediction_type", "")).startswith("flow")

    def of_comfyui(name: str, schedule: Callable[[int], Tensor], steps: int) -> Plan:
        return comfy_samplers.plan(name, schedule(steps), flow)

    found: dict[str, Maker] = {name: partial(_on, name, checkpoint.schedule) for name in baselines.NAMES}
    recipe = getattr(checkpoint, "schedule_recipe", {})
    if recipe.get("kind") == "polynomial":
        even = partial(schedules.log_snr, sigma_min=recipe["sigma_min"], sigma_max=recipe["sigma_max"])
        for name in ON_LOG_SNR:
            found[f"{name}/log-SNR"] = partial(_on, name, even)
    for name in comfy_samplers.OWN if with_comfyui else ():
        found[f"comfyui {name}"] = partial(of_comfyui, name, checkpoint.schedule)
    if isinstance(checkpoint, ComfyCheckpoint):
        for scheduler in SCHEDULERS:
            other = copy.copy(checkpoint)
            other.options = dataclasses.replace(checkpoint.options, scheduler=scheduler)
            for name in comfy_samplers.NAMES:
                found[f"comfyui {name}/{scheduler}"] = partial(of_comfyui, name, other.schedule)
    return found


def calls_to_equal(make: Maker, error: Callable[[int], float], target: float) -> int | None:
    """Network calls of the fewest steps with an error of at most target, None where MOST_CALLS do not suffice.

    make, error: of so many steps. By bisection, so it holds that one step less is worse, and it is the fewest where
    errors fall with steps.
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


def _on(name: str, schedule: Callable[[int], Tensor], steps: int) -> Plan:
    return baselines.plan(name, schedule(steps))


def _steps_of(make: Maker, calls: range) -> dict[int, int]:
    """steps -> network calls, for the counts that are wanted."""
    made = {steps: make(steps).network_calls for steps in range(2, calls.stop)}
    return {steps: n for steps, n in made.items() if n in calls}


def _error(bench: Bench, make: Maker, steps: int) -> float:
    return error_or_infinity(bench.network, bench.blocks, make(steps), bench.features)


def _earlier(out: Path | None) -> dict[str, Any]:
    file = None if out is None else out / "rivals.json"
    return json.loads(file.read_text("utf-8")) if file is not None and file.exists() else {}


def _print(model: str, found: Mapping[str, Any]) -> None:
    counts = sorted(found["learned"]["dyweight"])
    rows: list[list[str]] = []
    for family, by_steps in found["learned"].items():
        rows.append([f"**{family}**", *(spread(by_steps[n]) for n in counts), _calls(found["equal"], family)])
    best_first = sorted(found["errors"].items(), key=lambda item: item[1].get(REFERENCE, float("inf")))
    for name, line in best_first:
        errors = (f"{line[n]:.5f}" if n in line else "" for n in counts)
        rows.append([name, *errors, _calls(found["equal"], name)])
    print(f"\n{model}: {found['samples']} samples, seeds {list(found['seeds'])}, {found['seconds']:.0f} s\n")
    print_table(["solver", *(f"{n} calls" for n in counts), f"calls to equal DyWeight at {REFERENCE}"], rows)


def _calls(equal: Mapping[str, int | None], name: str) -> str:
    if equal[name] is None:
        return "none of these" if name in FAMILIES else f"more than {MOST_CALLS}"
    return f"{equal[name]}"


def draw(numbers: Mapping[str, Any], path: Path) -> None:
    """A panel for each model: endpoint error over network calls."""
    columns = 2 if len(numbers) > 1 else 1
    rows = -(-len(numbers) // columns)
    title = "Endpoint error over network calls"
    figure, _ = curves.new_figure(2.6 * rows + 1.4, title, [1.0] * rows, columns)
    panels: list[Any] = figure.axes
    for axes in panels[len(numbers) :]:
        axes.remove()
    for axes, (model, found) in zip(panels, numbers.items(), strict=False):
        for i, name in enumerate(SHOWN):
            line = _numbered(found["errors"].get(name, found["errors"].get(f"comfyui {name}", {})))
            style = {"color": curves.HANDCRAFTED[i], "marker": curves.MARKERS[i]}
            axes.plot([*line], [*line.values()], lw=0.9, ms=3, label=name, **style)
        for family, color in zip(FAMILIES, COLORS, strict=True):
            line = {n: statistics.mean(errors) for n, errors in _numbered(found["learned"][family]).items()}
            axes.plot([*line], [*line.values()], "-o", color=color, lw=1.8, ms=6, mec="white", label=family, zorder=4)
        axes.set(yscale="log", xlim=(2.6, 10.4), xticks=list(CALLS))
        axes.set_title(model, loc="left", fontsize=curves.TEXT, color=curves.INK)
        axes.yaxis.set_major_formatter("{x:g}")
    # What diverges lies above the picture.
    floor = min(axes.get_ylim()[0] for axes in panels[: len(numbers)])
    panels[0].set_ylim(floor, 3)
    for axes in panels[: len(numbers)][-columns:]:
        axes.set_xlabel("network calls (NFE)")
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=curves.SMALL)
    curves.write(figure, path)


def _numbered(line: Mapping[Any, Any]) -> dict[int, Any]:
    """Counts as numbers again, which JSON keeps as text."""
    return dict(sorted((int(n), value) for n, value in line.items()))


if __name__ == "__main__":
    timed(main)
