"""report.json and the pictures of a distillation or an evaluation."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dyweight import Solver, SolverFile
from dyweight.files import write_whole
from dyweight.picture import png

from ..compare.endpoint_error import Sampler, endpoint, errors_at_equal_calls, errors_over_calls, handcrafted, plan_for
from ..fit import Progress
from ..options.distill import DistillOptions
from ..pairs.pairs import Pairs
from ..pairs.targets import Block
from ..run.memory import peak_bytes, reset_peak
from ..run.network import Network
from . import curves, samples, schedules

MOST_NUMBERS = 10_000
"""A tensor of a solver with more is left out of report.json."""
SHOWN = 10
"""Samples in a picture's row."""
CURVE_CALLS = 3
"""A distillation's report compares up to so many network calls more than the solver's."""


@dataclass(frozen=True)
class Distillation:
    """A fitted solver and what it took."""

    file: SolverFile
    history: list[Progress]
    network_calls: dict[str, int]
    """forward, backward, and the total in forward-equivalents."""
    seconds: float
    peak_memory_bytes: int | None

    @property
    def solver(self) -> Solver:
        return self.file.solver


def distillation_report(options: DistillOptions, done: Distillation, network: Network, pairs: Pairs) -> None:
    """Measure the new solver on pairs that the fit never saw, and write all of it into the folder `options.report`."""
    assert options.report is not None
    folder, solver = options.report, done.solver
    blocks = [pairs.targets.block("test", i) for i in range(pairs.targets.block_count(options.report_pairs))]
    sampling_peak = _sampling_peak(network, blocks[0], solver)
    errors = errors_at_equal_calls(network, blocks, {solver.family: solver})
    by_calls = errors_over_calls(network, blocks, solver.network_calls + CURVE_CALLS)
    content = {
        "endpoint_error": errors,
        "network_calls": done.network_calls,
        "seconds": done.seconds,
        "peak_memory_bytes": done.peak_memory_bytes,
        "sampling_peak_memory_bytes": sampling_peak,
        "report_network_calls": network.total - done.network_calls["total"],
        "pairs": pairs.training_pairs,
        "validation_pairs": pairs.validation_pairs,
        "history": [asdict(line) for line in done.history],
        "error_over_steps": by_calls,
        "options": {name: _plain(value) for name, value in asdict(options).items()},
        "prompts": shown_prompts(network, blocks[0]),
        "solver": _solver_facts(solver),
    }
    write_json(folder, content)
    curves.convergence(done.history, folder / "convergence.png", f"{options.ckpt}, {options.steps} steps")
    draw(folder, network, done.file, blocks, errors, by_calls, options.ckpt)


def draw(
    folder: Path,
    network: Network,
    file: SolverFile,
    blocks: list[Block],
    errors: Mapping[str, float],
    by_calls: Mapping[str, Mapping[int, float]],
    title: str,
    others: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """coefficients.png, schedules.png of a solver with a table for each sample, error_over_steps.png, and samples.png
    (or scatter.png for latents that are vectors).

    others: endpoints of the first block by samplers that are no plans.
    """
    solver, calls = file.solver, file.solver.network_calls
    for name in ("samples.png", "scatter.png"):
        (folder / name).unlink(missing_ok=True)
    draw_solver(folder, network, file, blocks)
    curves.error_over_steps(
        by_calls, folder / "error_over_steps.png", {calls: errors[solver.family]}, solver.family, title
    )
    others = others or {}
    samplers: dict[str, Sampler] = {solver.family: solver}
    samplers |= handcrafted(network.checkpoint, calls, errors.keys() - {solver.family} - others.keys())
    ends = {"teacher": blocks[0].target}
    for name, error in errors.items():
        if error < 1:
            ends[name] = others[name] if name in others else endpoint(network, blocks[0], samplers[name])
    images = samples.as_images(torch.cat([end[:SHOWN] for end in ends.values()]), network.checkpoint)
    title = f"{title}, {calls} network calls"
    if images is not None:
        rows = dict(zip(ends, images.chunk(len(ends)), strict=True))
        samples.samples(rows, folder / "samples.png", title, shown_prompts(network, blocks[0]))
    elif blocks[0].target.ndim == 2:
        merged = [torch.cat([block.target for block in blocks])]
        merged += [torch.cat([endpoint(network, b, samplers[name]) for b in blocks]) for name in list(ends)[1:]]
        curves.scatter(dict(zip(ends, merged, strict=True)), folder / "scatter.png", title)


def shown_prompts(network: Network, block: Block) -> list[str] | None:
    """The whole captions of the columns of samples.png, None where the checkpoint tells none."""
    captions = samples.captions_of(network.checkpoint, block.cond)
    return None if captions is None else captions[:SHOWN]


def draw_solver(folder: Path, network: Network, file: SolverFile, blocks: list[Block]) -> None:
    """coefficients.png, the picture that the node Plot shows, and schedules.png where these samples have their own."""
    write_whole(folder / "coefficients.png", png(file))
    if file.solver.reads_samples:
        with torch.no_grad():
            plans = [plan_for(file.solver, network, block) for block in blocks]
        schedules.schedules(file.solver, plans, folder / "schedules.png")


def table(errors: Mapping[str, float], learned: str) -> str:
    """The errors as text, best first, each against the best handcrafted solver's."""
    best = min((error for name, error in errors.items() if name != learned), default=math.nan)
    width = max(14, *(len(name) + 2 for name in errors))
    lines = [f"{'sampler':<{width}}{'endpoint error':>16}{'of the best handcrafted':>26}"]
    lines += [f"{name:<{width}}{error:>16.6f}{error / best:>26.3f}" for name, error in errors.items()]
    return "\n".join(lines)


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
