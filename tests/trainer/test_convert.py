"""Published coefficients become coefficient files with the same numbers."""

import json
from pathlib import Path

import pytest
import torch

import dyweight
from dyweight import schedules
from trainer.convert import convert, main
from trainer.run.errors import TrainerError

PRESETS = Path(__file__).parents[2] / "dyweight" / "presets"


def entry(**changes):
    return {
        "source": "set-1",
        "model": "flux1-dev",
        "steps": 3,
        "order": 2,
        "analytic_first_step": False,
        "guidance": {"type": "embedded", "scale": 3.5},
        "slope_divides_by": "query_sigma",
        "base_schedule": {"kind": "flux_shift", "points": 4},
        "teacher_steps": 28,
        "loss": "latent mse",
        "weights_newest_first": [[0.9], [1.1, -0.2], [0.8, 0.1]],
        "time_scale": [1.01, 0.98, 0.99],
        **changes,
    }


def written(tmp_path, *entries):
    path = tmp_path / "sets.json"
    path.write_text(json.dumps({"sets": entries}), "utf-8")
    return path


def test_the_numbers_of_a_set_are_those_of_the_file(tmp_path):
    out = tmp_path / "out.safetensors"
    assert main([f"{written(tmp_path, entry())}:set-1", str(out)]) == 0
    solver = dyweight.load_solver(out)
    assert torch.allclose(solver.weights, torch.tensor([[0.9, 0], [1.1, -0.2], [0.8, 0.1]], dtype=torch.float64))
    assert solver.time_scale.tolist() == [1.01, 0.98, 0.99]
    assert (solver.slope, solver.order, solver.analytic_first_step) == ("query", 2, False)
    assert torch.allclose(solver.sigmas, schedules.flux(3, 1024))
    assert solver.provenance["model_family"] == "Flux"
    assert solver.provenance["guidance"] == 3.5


def test_an_analytic_first_step_has_no_time_scale(tmp_path):
    schedule = {"kind": "polynomial", "rho": 7.0, "sigma_max": 80.0, "sigma_min": 0.002}
    published = entry(analytic_first_step=True, time_scale=[0.98, 0.99], base_schedule=schedule, model="cifar10")
    solver = convert(f"{written(tmp_path, published)}:set-1", tmp_path / "out.safetensors")
    assert solver.time_scale.tolist() == [1.0, 0.98, 0.99]
    assert torch.allclose(solver.sigmas, schedules.polynomial(3))
    assert solver.network_calls == 2


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("set-2", {}, "no set 'set-2': did you mean set-1"),
        ("set-1", {"slope_divides_by": "nothing"}, "set-1: the set makes no solver"),
        ("set-1", {"weights_newest_first": [[1.0]] * 4}, "set-1: the set makes no solver"),
        ("set-1", {"base_schedule": {"kind": "other"}}, "its base schedule is 'other'"),
    ],
)
def test_what_makes_no_solver_is_named_and_nothing_is_written(tmp_path, name, changes, message):
    out = tmp_path / "out.safetensors"
    with pytest.raises(TrainerError, match=message):
        convert(f"{written(tmp_path, entry(**changes))}:{name}", out)
    assert not out.exists()


def test_a_source_that_is_no_json_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{", "utf-8")
    with pytest.raises(TrainerError, match=r"x\.json"):
        convert(f"{tmp_path / 'x.json'}:set", tmp_path / "out.safetensors")


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.safetensors")), ids=lambda path: path.stem)
def test_the_presets_say_for_what_they_are(path):
    solver = dyweight.load_solver(path)
    assert path.stem.endswith(f"-{solver.steps}-steps")
    assert solver.provenance["model_family"] in {"Flux", "SD15"}
    assert solver.provenance["made_by"].startswith("the authors of DyWeight")
    assert {"guidance", "shift", "shape", "cfg", "prediction_type"} <= set(solver.provenance)
