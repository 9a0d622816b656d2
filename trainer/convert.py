"""`python -m trainer.convert SOURCE OUT.safetensors`: coefficients that others published, as a coefficient file."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dyweight
from dyweight import DyWeight, schedules
from dyweight.names import did_you_mean

from .command import run
from .errors import TrainerError

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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.convert", description=__doc__)
    parser.add_argument("source", help="FILE.json:SET, a set of coefficients in the layout of the reference")
    parser.add_argument("out", type=Path, help="the coefficient file to write")
    options = parser.parse_args(arguments)
    return run(lambda: convert(options.source, options.out))


def convert(source: str, out: Path) -> DyWeight:
    """Write the coefficient file of a published set. Raises TrainerError with what to do."""
    file, _, name = source.rpartition(":")
    try:
        sets = {entry["source"]: entry for entry in json.loads(Path(file or source).read_text("utf-8"))["sets"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainerError(f"{file or source}: no JSON file with sets of coefficients ({error})") from error
    if name not in sets:
        raise TrainerError(f"{file}: no set {name!r}: {did_you_mean(name, tuple(sets))}it has {', '.join(sets)}")
    solver, provenance = from_reference(sets[name])
    dyweight.save_solver(solver, out, provenance)
    print(f"{name}: {solver.steps} steps, {solver.network_calls} network calls; wrote {out}")
    return solver


def from_reference(entry: dict[str, Any]) -> tuple[DyWeight, dict[str, Any]]:
    """(solver, provenance) of one set. Raises TrainerError where an entry is missing or makes no solver."""
    try:
        sigmas, recipe = base_schedule(entry)
        solver = DyWeight(
            sigmas,
            entry["order"],
            _SLOPES[entry["slope_divides_by"]],  # type: ignore[arg-type]
            entry["analytic_first_step"],
            initial="euler",
            schedule=recipe,
        )
        with torch.no_grad():
            solver.weights.zero_()
            for n, row in enumerate(entry["weights_newest_first"]):
                solver.weights[n, : len(row)] = torch.tensor(row, dtype=torch.float64)
            solver.time_scale[int(solver.analytic_first_step) :] = torch.tensor(
                entry["time_scale"], dtype=torch.float64
            )
        solver.plan()
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise TrainerError(
            f"{entry.get('source')}: the set makes no solver ({type(error).__name__}: {error})"
        ) from error
    return solver, _provenance(entry)


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


if __name__ == "__main__":
    raise SystemExit(main())
