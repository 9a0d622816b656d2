"""A solver and its provenance from an entry in the layout of the reference."""

from typing import Any

import torch
from torch import Tensor

from dyweight import DyWeight, schedules

from ..run.errors import TrainerError

_MODELS: dict[str, dict[str, Any]] = {
    "flux1-dev": {
        "model_family": "Flux",
        "prediction_type": "flow",
        "shape": [16, 64, 64],
        "cfg": 1.0,
        "shift": 0.63,
    },
    "ms_coco": {
        "model_family": "SD15",
        "prediction_type": "eps",
        "shape": [4, 64, 64],
        "guidance": None,
        "shift": None,
    },
}
"""What the published models are to ComfyUI; both were sampled at 512 x 512."""
_SD15_RANGE = {"sigma_min": 0.029167533, "sigma_max": 14.614641}
_SLOPES = {"state_sigma": "state", "query_sigma": "query"}


def from_entry(entry: dict[str, Any]) -> tuple[DyWeight, dict[str, Any]]:
    """(solver, provenance) of one set. Raises TrainerError where something is missing or makes no solver."""
    try:
        rows, steps, analytic = entry["weights_newest_first"], entry["steps"], entry["analytic_first_step"]
        order = min(entry["order"], steps)
        if [len(row) for row in rows] != [min(n + 1, order) for n in range(len(rows))] or len(rows) != steps:
            raise ValueError(f"weights_newest_first must have {steps} rows, of 1 number and one more up to {order}")
        if len(entry["time_scale"]) != steps - int(analytic):
            raise ValueError(f"time_scale must have {steps - int(analytic)} numbers")
        sigmas, recipe = base_schedule(entry)
        solver = DyWeight(
            sigmas,
            order,
            _SLOPES[entry["slope_divides_by"]],  # type: ignore[arg-type]
            analytic,
            initial="euler",
            schedule=recipe,
        )
        with torch.no_grad():
            solver.weights.zero_()
            for n, row in enumerate(rows):
                solver.weights[n, : len(row)] = torch.tensor(row, dtype=torch.float64)
            solver.time_scale[int(analytic) :] = torch.tensor(entry["time_scale"], dtype=torch.float64)
        if not bool(torch.isfinite(solver.weights).all() and torch.isfinite(solver.time_scale).all()):
            raise ValueError("a weight or a time scale is not finite")
        solver.plan()
        return solver, _provenance(entry)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, ArithmeticError, AttributeError) as error:
        raise TrainerError(
            f"{entry.get('source')}: the set makes no solver ({type(error).__name__}: {error})"
        ) from error


def base_schedule(entry: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """(sigmas [steps + 1], recipe) of a published set."""
    published, steps = entry["base_schedule"], entry["steps"]
    kind = published["kind"]
    if kind == "flux_shift":
        return schedules.flux(steps, 1024), {"kind": "flux", "image_tokens": 1024}
    if kind == "discrete" and entry["model"] == "ms_coco":
        return schedules.vp_discrete(steps), {"kind": "vp_discrete"}
    if kind == "polynomial":
        # The command line's default range stands in some sets; a network of SD 1.5 knows its own only.
        ends = (
            _SD15_RANGE if entry["model"] == "ms_coco" else {key: published[key] for key in ("sigma_min", "sigma_max")}
        )
        return schedules.polynomial(steps, rho=published["rho"], **ends), {
            "kind": kind,
            "rho": published["rho"],
            **ends,
        }
    if published.get("sigmas"):
        return torch.tensor(published["sigmas"], dtype=torch.float64), {"kind": kind}
    raise TrainerError(
        f"{entry['source']}: its base schedule is {kind!r} and no sigmas are given; nothing can be made of it"
    )


def _provenance(entry: dict[str, Any]) -> dict[str, Any]:
    guidance = entry.get("guidance") or {}
    field = {"cfg": "cfg", "embedded": "guidance"}.get(str(guidance.get("type")))
    return {
        "model": {"ms_coco": "SD 1.5"}.get(entry["model"], entry["model"]),
        **_MODELS.get(entry["model"], {}),
        **({field: guidance["scale"]} if field else {}),
        "teacher": f"{entry['teacher_steps']} steps",
        "loss": entry["loss"],
        "method": "adam",
        "made_by": "the authors of DyWeight (arXiv 2603.11607)",
        "source": entry["source"],
    }
