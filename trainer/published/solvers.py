"""A solver and its provenance from an entry in the layout of the reference."""

from typing import Any

import torch
from torch import Tensor

from dyweight import DyWeight, schedules

from ..run.errors import TrainerError

_MODELS: dict[str, dict[str, Any]] = {
    "flux1-dev": {"model_family": "Flux", "prediction_type": "flow", "shape": [16, 64, 64], "cfg": 1.0, "shift": 0.63},
    "ms_coco": {
        **{"model": "SD 1.5", "model_family": "SD15", "prediction_type": "eps", "shape": [4, 64, 64]},
        **{"guidance": None, "shift": None},
    },
}
"""What the published models are to ComfyUI; both were sampled at 512 x 512."""
_SD15_RANGE = {"sigma_min": 0.029167533, "sigma_max": 14.614641}


def from_entry(entry: dict[str, Any]) -> tuple[DyWeight, dict[str, Any]]:
    """(solver, provenance) of one set. Raises TrainerError where something is missing or makes no solver; whether its
    numbers are finite and lead anywhere, `save_solver` checks.
    """
    try:
        return _solver(entry), _provenance(entry)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, ArithmeticError, AttributeError) as error:
        what = f"the set makes no solver ({type(error).__name__}: {error})"
        raise TrainerError(f"{entry.get('source')}: {what}") from error


def _solver(entry: dict[str, Any]) -> DyWeight:
    rows, steps, analytic = entry["weights_newest_first"], entry["steps"], int(entry["analytic_first_step"])
    order = min(entry["order"], steps)
    if len(rows) != steps or any(len(row) != min(n + 1, order) for n, row in enumerate(rows)):
        raise ValueError(f"weights_newest_first must have {steps} rows, of 1 number and one more up to {order}")
    if len(entry["time_scale"]) != steps - analytic:
        raise ValueError(f"time_scale must have {steps - analytic} numbers")
    slope = {"state_sigma": "state", "query_sigma": "query"}[entry["slope_divides_by"]]
    sigmas, recipe = base_schedule(entry)
    solver = DyWeight(sigmas, order, slope, bool(analytic), initial="euler", schedule=recipe)  # type: ignore[arg-type]
    with torch.no_grad():
        padded = [[*row, *[0.0] * (order - len(row))] for row in rows]
        solver.weights.copy_(torch.tensor(padded, dtype=torch.float64))
        solver.time_scale[analytic:] = torch.tensor(entry["time_scale"], dtype=torch.float64)
    return solver


def base_schedule(entry: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """(sigmas [steps + 1], recipe) of a published set."""
    published, steps, model = entry["base_schedule"], entry["steps"], entry["model"]
    kind = published["kind"]
    if kind == "flux_shift":
        return schedules.flux(steps, 1024), {"kind": "flux", "image_tokens": 1024}
    if kind == "discrete" and model == "ms_coco":
        return schedules.vp_discrete(steps), {"kind": "vp_discrete"}
    if kind == "polynomial":
        # The command line's default range stands in some sets; a network of SD 1.5 knows its own only.
        recipe = {name: published[name] for name in ("rho", "sigma_min", "sigma_max")}
        recipe |= _SD15_RANGE if model == "ms_coco" else {}
        return schedules.polynomial(steps, **recipe), {"kind": kind, **recipe}
    if published.get("sigmas"):
        return torch.tensor(published["sigmas"], dtype=torch.float64), {"kind": kind}
    raise ValueError(f"its base schedule is {kind!r} and no sigmas are given")


def _provenance(entry: dict[str, Any]) -> dict[str, Any]:
    guidance = entry.get("guidance") or {}
    field = {"cfg": "cfg", "embedded": "guidance"}.get(str(guidance.get("type")))
    return {
        "model": entry["model"],
        **_MODELS.get(entry["model"], {}),
        **({field: guidance["scale"]} if field else {}),
        "teacher": f"{entry['teacher_steps']} steps",
        "loss": entry["loss"],
        "method": "adam",
        "made_by": "the authors of DyWeight (arXiv 2603.11607)",
        "source": entry["source"],
    }
