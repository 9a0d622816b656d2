"""report.json and the pictures of a distillation or an evaluation."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dyweight import Solver, SolverFile
from dyweight.files import write_whole
from dyweight.picture import png

from ..compare.endpoint_error import Sampler, endpoint, errors_at_equal_calls, errors_over_calls, plan_for
from ..compare.handcrafted import handcrafted
from ..distillation.result import Distillation
from ..options.distill import DistillOptions
from ..pairs.pairs import Pairs
from ..pairs.targets import Block
from ..run.memory import peak_bytes, reset_peak
from ..run.network import Network
from ..run.table import table
from . import curves, samples, schedules

MOST_NUMBERS = 10_000
"""Tensors of a solver with more numbers are left out of report.json."""
SHOWN = 10
"""Number of samples in a row of a picture."""
CURVE_CALLS = 3
"""A distillation's report compares samplers with up to this many network calls more than the solver's."""


def distillation_report(options: DistillOptions, done: Distillation, network: Network, pairs: Pairs) -> None:
    """Measure what is new on pairs that the fit has not seen, and write the report into `options.report`.

    Of several solvers each has a report of its own in a folder named by its number of steps.
    """
    assert options.report is not None
    folder, before = options.report, network.total
    # Only the first process reports, and it has only its own blocks.
    at_hand = pairs.cluster.size == 1 and pairs.test_targets is pairs.targets
    count = pairs.targets.block_count(options.report_pairs)
    blocks = [*pairs.test] if at_hand else [pairs.targets.block("test", i) for i in range(count)]
    files = {steps: done.file.member(steps) for steps in done.histories}
    sampling_peak = max(_sampling_peak(network, blocks[0], file.solver) or 0 for file in files.values()) or None
    most_calls = max(network.evaluations(file.solver) for file in files.values()) + CURVE_CALLS * network.per_call
    by_calls = errors_over_calls(network, blocks, most_calls)
    reports: dict[int, dict[str, Any]] = {}
    for steps, file in files.items():
        own, solver = folder if len(files) == 1 else folder / str(steps), file.solver
        own.mkdir(exist_ok=True)
        calls = network.evaluations(solver) // network.per_call
        samplers: dict[str, Sampler] = {solver.family: solver, **handcrafted(network.checkpoint, calls)}
        errors = errors_at_equal_calls(network, blocks, samplers)
        history = done.histories[steps]
        reports[steps] = {
            "endpoint_error": errors,
            "pairs": file.provenance["pairs"],
            "history": [asdict(line) for line in history],
            "solver": _solver_facts(solver),
        }
        curves.convergence(history, own / "convergence.png", f"{options.ckpt}, {steps} steps")
        draw(own, network, file, blocks, errors, by_calls, options.ckpt, samplers)
    of_all = {
        "network_calls": done.network_calls,
        "seconds": done.seconds,
        "peak_memory_bytes": done.peak_memory_bytes,
        "sampling_peak_memory_bytes": sampling_peak,
        "report_network_calls": network.total - before,
        "validation_pairs": pairs.validation_pairs,
        "error_over_steps": by_calls,
        "options": {name: _plain(value) for name, value in asdict(options).items()},
        "prompts": shown_prompts(network, blocks[0]),
    }
    if len(files) == 1:
        return write_json(folder, {**reports[options.members[0]], **of_all})
    write_json(folder, {"members": reports, **of_all})
    errors_of = {steps: reports[steps]["endpoint_error"][file.solver.family] for steps, file in files.items()}
    curves.error_over_steps(by_calls, folder / "error_over_steps.png", errors_of, "set", options.ckpt)


def draw(
    folder: Path,
    network: Network,
    file: SolverFile,
    blocks: list[Block],
    errors: Mapping[str, float],
    by_calls: Mapping[str, Mapping[int, float]],
    title: str,
    samplers: Mapping[str, Sampler],
) -> None:
    """Draw coefficients.png, error_over_steps.png, samples.png (or scatter.png for latents that are vectors), and
    schedules.png for a solver with a table for each sample.

    errors: at the solver's number of network calls, best first. samplers: the sampler of each.
    """
    solver, calls = file.solver, network.evaluations(file.solver)
    for name in ("samples.png", "scatter.png"):
        (folder / name).unlink(missing_ok=True)
    draw_solver(folder, network, file, blocks)
    curves.error_over_steps(
        by_calls, folder / "error_over_steps.png", {calls: errors[solver.family]}, solver.family, title
    )
    shown = {name: samplers[name] for name in _worth_showing(errors)}
    ends = {"teacher": blocks[0].target} | {name: endpoint(network, blocks[0], s) for name, s in shown.items()}
    images = samples.as_images(torch.cat([end[:SHOWN] for end in ends.values()]), network.checkpoint)
    title = f"{title}, {calls} network {network.unit}"
    if images is not None:
        rows = dict(zip(ends, images.chunk(len(ends)), strict=True))
        samples.samples(rows, folder / "samples.png", title, shown_prompts(network, blocks[0]))
    elif blocks[0].target.ndim == 2:
        merged = {name: torch.cat([endpoint(network, b, sampler) for b in blocks]) for name, sampler in shown.items()}
        merged = {"teacher": torch.cat([block.target for block in blocks])} | merged
        curves.scatter(merged, folder / "scatter.png", title)


def _worth_showing(errors: Mapping[str, float]) -> list[str]:
    """The samplers that are better than a guess, and only the best order of each solver."""
    best: dict[str, str] = {}
    for name, error in errors.items():
        if error < 1:
            best.setdefault(name.partition(":")[0], name)
    return list(best.values())


def shown_prompts(network: Network, block: Block) -> list[str] | None:
    """The full captions of the columns of samples.png; None if the checkpoint has none."""
    captions = network.checkpoint.captions(block.cond)
    return None if captions is None else captions[:SHOWN]


def draw_solver(folder: Path, network: Network, file: SolverFile, blocks: list[Block]) -> None:
    """Draw coefficients.png, the picture of the node Plot, and schedules.png if each sample has its own schedule."""
    write_whole(folder / "coefficients.png", png(file))
    if file.solver.reads_samples:
        with torch.no_grad():
            plans = [plan_for(file.solver, network, block) for block in blocks]
        schedules.schedules(file.solver, plans, folder / "schedules.png")


def error_table(errors: Mapping[str, float], learned: str) -> str:
    """The errors as a table, best first, each also relative to the best handcrafted solver's at any order."""
    best = min((error for name, error in errors.items() if name != learned), default=math.nan)
    rows = [(name, f"{error:.6f}", f"{error / best:.3f}") for name, error in errors.items()]
    return table(["sampler", "endpoint error", "of the best handcrafted"], rows)


def write_json(folder: Path, content: dict[str, Any]) -> None:
    """report.json, whole or not at all; numbers that are not finite become null."""
    text = json.dumps(_finite(content), indent=2, default=str)
    write_whole(folder / "report.json", (text + "\n").encode())


def _sampling_peak(network: Network, block: Block, solver: Solver) -> int | None:
    reset_peak(block.noise.device)
    endpoint(network, block, solver)
    return peak_bytes(block.noise.device)


def _solver_facts(solver: Solver) -> dict[str, Any]:
    tensors = solver.tensors()
    numbers = {name: tensor.tolist() for name, tensor in tensors.items() if tensor.numel() <= MOST_NUMBERS}
    return {**solver.settings(), **numbers, "numbers": sum(tensor.numel() for tensor in tensors.values())}


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
