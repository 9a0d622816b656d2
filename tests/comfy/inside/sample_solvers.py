"""Solvers whose network phi says something, so that each sample has a table of its own, and the loop that they mean."""

from collections.abc import Callable
from typing import Any

import tiny_models
import torch
from sampling_tools import random_solver, sigmas_of
from torch import Tensor

KINDS = ("indis", "instance-dyweight")
STEPS = 5


def condition_of(pack: Any, conditioning: Any) -> Tensor:
    """What phi reads of a CONDITIONING: its first entry, as the trainer tells it."""
    text, extra = conditioning[0]
    return pack.dyweight.conditions.of_text(text, extra.get("pooled_output"))


def speaking(
    pack: Any, kind: str, family: str, sigmas: Tensor, seed: int = 0, loud: float = 1.0, **options: Any
) -> Any:
    """A solver for a tiny model with random weights in phi's last layer, 0 where loud is."""
    width = condition_of(pack, tiny_models.conditioning(family)).shape[1]
    shape = tiny_models.LATENT[family]
    settings = {"condition_width": width, "shape": shape, "seed": seed, **options}
    if kind == "indis":
        solver = pack.dyweight.Indis(sigmas.double(), **settings)
    else:
        base = random_solver(pack, sigmas, spread=0.05, **settings.pop("dyweight", {}))
        solver = pack.dyweight.InstanceDyWeight(base, **settings)
    leave, generator = solver.phi.leave, torch.Generator().manual_seed(seed)
    with torch.no_grad():
        leave.weight.copy_(loud * 1.75 * torch.randn(leave.weight.shape, generator=generator))
        leave.bias.copy_(loud * 0.3 * torch.randn(leave.bias.shape, generator=generator))
    return solver.requires_grad_(False)


def for_model(pack: Any, kind: str, family: str, model: Any, **options: Any) -> Any:
    """`speaking` on ComfyUI's own schedule for a MODEL."""
    return speaking(pack, kind, family, sigmas_of(model, STEPS), **options)


def plain(pack: Any, solver: Any, condition: Tensor | None, batch: int) -> Any:
    """SAMPLER of the plain loop on the tables for the very latent that arrives, which is noise at the first sigma."""
    rows = None if condition is None else condition.expand(batch, -1)

    def table(x: Tensor) -> Any:
        plan = solver.plan(noise=x, condition=rows)
        assert plan.batch == (batch if batch > 1 else None)
        return plan

    return _loop(pack, table)


def of_plan(pack: Any, plan: Any) -> Any:
    """SAMPLER of the plain loop on one table."""
    return _loop(pack, lambda x: plan)


def _loop(pack: Any, table: Callable[[Tensor], Any]) -> Any:
    import comfy.samplers

    @torch.no_grad()
    def loop(model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, callback: Any = None, disable: Any = None):
        return pack.dyweight.sample(lambda x, sigma: model(x, sigma, **(extra_args or {})), x, table(x))

    return comfy.samplers.KSAMPLER(loop)
