"""What a table for each sample costs: time of phi and of the whole plan against sampling with 5 calls in ComfyUI.

`python -m benchmarks.phi_cost [--comfyui PATH] [--width 64 512] [--batch 1 8]` samples the small FLUX of the tests, so
small that everything beside the network shows: its own latent of 8 x 8, and one of 64 x 64 (512 pixels). A real model
takes longer in the network and the same in phi.
"""

import argparse
import importlib
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dyweight import DyWeight, Indis, InstanceDyWeight
from dyweight.placement import place
from trainer.checkpoints.comfy.checkpoint import ComfyCheckpoint
from trainer.checkpoints.load import load_checkpoint
from trainer.options.comfy import ComfyOptions

from .comfy_overhead import seconds_by_turns

MODEL = Path(__file__).parents[1] / "tools" / "models" / "tiny-flux.safetensors"
STEPS, ORDER = 5, 3
LIMIT = 0.03
"""Of the sampling time, for one forward of phi."""


def small_flux(comfyui: Path, width: int) -> ComfyCheckpoint:
    """The trained FLUX of the tests at a width in pixels, sampled by ComfyUI's own code."""
    sys.path.append(str(MODEL.parents[1] / "standins"))
    importlib.import_module("sitecustomize")
    conditions = MODEL.with_name("tiny-flux-conditions.safetensors")
    found = load_checkpoint(str(MODEL), ComfyOptions(comfyui=comfyui, conditioning=conditions, width=width))
    assert isinstance(found, ComfyCheckpoint)
    return found


def solver_of(kind: str, flux: ComfyCheckpoint) -> Indis | InstanceDyWeight:
    """A solver with a network of the size it has for this model, as read from a file."""
    sigmas, width = flux.schedule(STEPS), flux.condition(torch.zeros(1).long()).shape[1]
    if kind == "indis":
        return Indis(sigmas, flux.shape, width, order=ORDER).requires_grad_(False)
    return InstanceDyWeight(DyWeight(sigmas, ORDER), flux.shape, width).requires_grad_(False)


def runs_of(kind: str, flux: ComfyCheckpoint, batch: int) -> Mapping[str, Callable[[], object]]:
    """What takes turns: sampling without any phi, and what phi adds before it."""
    solver = solver_of(kind, flux)
    noise, prompts = flux.draw(torch.Generator().manual_seed(0), batch)
    condition, first = flux.condition(prompts), float(solver.sigmas[0])
    unit, asked = noise.cpu() / first, solver.sigmas.float()

    def in_the_node() -> object:
        """All that the node does before the first call; the condition comes from the guider there."""
        given: Tensor = noise / first
        return place(solver, asked, noise=given, condition=flux.condition(prompts))

    return {
        "sampling": lambda: flux.sample_with("euler", flux.options.scheduler, STEPS, noise, prompts),
        "phi": lambda: solver.phi(unit, condition),
        "plan": lambda: solver.plan(noise=noise, condition=condition),
        "node": in_the_node,
    }


@torch.inference_mode()
def main() -> int:
    """Print the table; exit status 1 where phi is over its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.phi_cost", description=__doc__)
    parser.add_argument("--comfyui", type=Path, help="by default as for the trainer")
    parser.add_argument("--width", type=int, nargs="+", default=[64, 512], help="of the picture, in pixels")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{STEPS} calls of the small FLUX, one thread; in % of the sampling time, median of {options.repeats} turns")
    print("phi: its forward alone. plan: phi and the tables. node: condition, plan and choice of the rows")
    print(f"{'latent':<10} {'batch':>5}  {'solver':<18} {'sampling':>10} {'phi':>7} {'plan':>7} {'node':>7}")
    worst = 0.0
    for width in options.width:
        flux = small_flux(options.comfyui, width)
        latent = "x".join(map(str, flux.shape))
        for batch in options.batch:
            for kind in ("indis", "instance-dyweight"):
                seconds = seconds_by_turns(runs_of(kind, flux, batch), options.repeats)
                sampling = statistics.median(seconds["sampling"])
                share = {name: statistics.median(values) / sampling for name, values in seconds.items()}
                columns = " ".join(f"{100 * share[name]:>6.2f}%" for name in ("phi", "plan", "node"))
                print(f"{latent:<10} {batch:>5}  {kind:<18} {1000 * sampling:>7.1f} ms {columns}", flush=True)
                worst = max(worst, share["phi"])
    print(f"phi takes at most {100 * worst:.2f} % (limit {100 * LIMIT:g} %)")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
