"""The cost of a table for each sample: the time of phi and of the whole plan relative to 5 calls in ComfyUI.

Samples the small FLUX of tools/models, which is so small that everything besides the network shows, with its own latent
of 8 x 8 and with one of 64 x 64 (512 pixels). A real model's network takes longer, and phi the same time.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dyweight import DyWeight, Indis, InstanceDyWeight
from dyweight.placement import place
from trainer.checkpoints.comfy.checkpoint import ComfyCheckpoint

from ..harness.bench import FLUX, Bench, seconds_by_turns
from ..harness.study import Numbers, Options, Study, Tables, table

STEPS, ORDER = 5, 3
LIMIT = 0.03
"""Limit of the time of phi's forward pass as a share of the sampling time."""
PARTS = ("phi", "plan", "node")


def solver_of(kind: str, flux: ComfyCheckpoint) -> Indis | InstanceDyWeight:
    """A solver with a network of the usual size for this model, as read from a file."""
    sigmas, width = flux.schedule(STEPS), flux.condition(torch.zeros(1).long()).shape[1]
    if kind == "indis":
        return Indis(sigmas, flux.shape, width, order=ORDER).requires_grad_(False)
    return InstanceDyWeight(DyWeight(sigmas, ORDER), flux.shape, width).requires_grad_(False)


def runs_of(kind: str, flux: ComfyCheckpoint, batch: int) -> Mapping[str, Callable[[], object]]:
    """The runs that take turns: sampling without phi, and what phi adds before it."""
    solver = solver_of(kind, flux)
    noise, prompts = flux.draw(torch.Generator().manual_seed(0), batch)
    condition, first = flux.condition(prompts), float(solver.sigmas[0])
    unit, asked = noise.cpu() / first, solver.sigmas.float()

    def in_the_node() -> object:
        """Everything that the node does before the first call; there the condition comes from the guider."""
        given: Tensor = noise / first
        return place(solver, asked, noise=given, condition=flux.condition(prompts))

    return {
        "sampling": lambda: flux.sample_with("euler", flux.scheduler, STEPS, noise, prompts),
        "phi": lambda: solver.phi(unit, condition),
        "plan": lambda: solver.plan(noise=noise, condition=condition),
        "node": in_the_node,
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--comfyui", type=Path, help="ComfyUI's folder; the default is the trainer's")
    parser.add_argument("--width", type=int, nargs="+", default=[64, 512], help="widths of the picture in pixels")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=10)


@torch.inference_mode()
def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Latent -> rows of batch, solver, seconds of sampling, and shares of it.

    phi: its forward pass alone. plan: phi and the tables. node: the condition, the plan and the choice of its rows.
    """
    torch.set_num_threads(1)
    for width in options.more.width:
        flux, rows = Bench(FLUX, options.quick, comfyui=options.more.comfyui, width=width).checkpoint.made, []
        assert isinstance(flux, ComfyCheckpoint)
        for batch in options.more.batch:
            for kind in ("indis", "instance-dyweight"):
                seconds = seconds_by_turns(runs_of(kind, flux, batch), 2 if options.quick else options.more.repeats)
                median = {name: statistics.median(values) for name, values in seconds.items()}
                shares = {name: median[name] / median["sampling"] for name in PARTS}
                rows.append({"batch": batch, "solver": kind, "sampling": median["sampling"], **shares})
        yield "x".join(map(str, flux.shape)), rows


def tables(numbers: Numbers) -> Tables:
    """All rows, with shares in percent."""
    rows = [
        [latent, row["batch"], row["solver"], f"{1000 * row['sampling']:.1f}", *(f"{100 * row[p]:.2f}" for p in PARTS)]
        for latent, found in numbers.items()
        for row in found
    ]
    shares = (f"{part}, % of sampling" for part in PARTS)
    return {"cost": table(["latent", "batch", "solver", f"ms of {STEPS} calls", *shares], rows)}


STUDY = Study(
    "phi-cost",
    __doc__,
    measure,
    tables,
    seeds=0,
    add_options=add_options,
    passes=lambda numbers: all(row["phi"] <= LIMIT for found in numbers.values() for row in found),
)
