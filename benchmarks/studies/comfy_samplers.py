"""ComfyUI's own samplers as tables: its code runs on symbols, so that they are measured like every other solver."""

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from dyweight import Plan
from dyweight.tracing import trace
from trainer.checkpoints.comfy.installation import find_comfyui, start
from trainer.checkpoints.comfy.rivals import SAMPLERS
from trainer.run.errors import TrainerError

NAMES = SAMPLERS
"""ComfyUI's deterministic multistep samplers, and er_sde, which adds noise there. With noise no sampler ends where the
teacher does, so here it is the ODE of its family, whose noise scaler is the identity."""
OWN = ("ipndm", "uni_pc", "deis", "res_multistep", "er_sde")
"""Those that `dyweight.baselines` lacks: ComfyUI's ipndm ends with an Euler step, its uni_pc at sigma 0.001."""


def missing() -> str | None:
    """Why ComfyUI's samplers are not available; None if they are."""
    try:
        start(find_comfyui(None))
        importlib.import_module("comfy.k_diffusion.sampling")
    except (TrainerError, ImportError) as error:
        return str(error)
    return None


def plan(name: str, sigmas: Tensor, flow: bool = False) -> Plan:
    """The table that ComfyUI's sampler makes of a schedule [steps + 1]. flow: x = (1 - sigma) x0 + sigma noise."""
    sampler = _function(name)
    model_sampling = _model_sampling(flow)
    patcher = SimpleNamespace(get_model_object=lambda wanted: model_sampling)
    extra: dict[str, Any] = {"noise_scaler": lambda x: x, "s_noise": 0.0} if name == "er_sde" else {}

    def loop(denoise: Callable[[Tensor, Tensor], Tensor], x: Tensor, sigmas: Tensor) -> Tensor:
        def model(x: Tensor, sigma: Tensor, **_: Any) -> Tensor:
            return denoise(x[:, 0].double(), sigma.double()[0])[:, None].float()

        model.inner_model = SimpleNamespace(model_patcher=patcher)  # type: ignore[attr-defined]
        # In float32, as ComfyUI runs them; uni_pc supports nothing else.
        end: Tensor = sampler(model, x[:, None].float(), sigmas.float(), extra_args={}, disable=True, **extra)
        return end[:, 0].double()

    return trace(loop, sigmas, rows=2 * len(sigmas))


def _function(name: str) -> Any:
    if name == "uni_pc":
        return importlib.import_module("comfy.extra_samplers.uni_pc").sample_unipc
    return getattr(importlib.import_module("comfy.k_diffusion.sampling"), f"sample_{name}")


def _model_sampling(flow: bool) -> Any:
    """What the samplers read of ComfyUI's model: whether it is a flow, and its sigma just below the first."""
    if not flow:
        return SimpleNamespace()
    kinds = importlib.import_module("comfy.model_sampling")
    sampling = kinds.CONST()
    sampling.percent_to_sigma = lambda percent: 1 - percent
    return sampling
