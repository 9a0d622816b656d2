"""Published sets become coefficient files with the same numbers."""

import json
from pathlib import Path

import pytest
import torch

import dyweight
from dyweight import schedules
from trainer.convert import convert, main
from trainer.run.errors import TrainerError

PRESETS = Path(__file__).parents[3] / "dyweight" / "presets"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.safetensors"


@pytest.fixture
def written(tmp_path):
    """FILE.json:set-1 of a set with other values where given."""

    def write(**changes):
        entry = {
            **{"source": "set-1", "model": "flux1-dev", "steps": 3, "order": 2, "analytic_first_step": False},
            **{"guidance": {"type": "embedded", "scale": 3.5}, "slope_divides_by": "query_sigma"},
            **{"base_schedule": {"kind": "flux_shift"}, "teacher_steps": 28, "loss": "latent mse"},
            **{"weights_newest_first": [[0.9], [1.1, -0.2], [0.8, 0.1]], "time_scale": [1.01, 0.98, 0.99]},
            **changes,
        }
        (tmp_path / "sets.json").write_text(json.dumps({"sets": [entry]}), "utf-8")
        return f"{tmp_path / 'sets.json'}:set-1"

    return write


def test_the_numbers_of_a_set_are_those_of_the_file(written, out):
    assert main([written(), str(out)]) == 0
    solver = dyweight.load_solver(out)
    assert torch.allclose(solver.weights, torch.tensor([[0.9, 0], [1.1, -0.2], [0.8, 0.1]], dtype=torch.float64))
    assert solver.time_scale.tolist() == [1.01, 0.98, 0.99]
    assert (solver.slope, solver.order, solver.analytic_first_step) == ("query", 2, False)
    assert torch.allclose(solver.sigmas, schedules.flux(3, 1024))
    provenance = dyweight.SolverFile.read(out).provenance
    assert (provenance["model_family"], provenance["guidance"]) == ("Flux", 3.5)


def test_an_analytic_first_step_has_no_time_scale(written, out):
    schedule = {"kind": "polynomial", "rho": 7.0, "sigma_max": 80.0, "sigma_min": 0.002}
    changes = {"analytic_first_step": True, "time_scale": [0.98, 0.99], "base_schedule": schedule, "model": "cifar10"}
    solver = convert(written(**changes), out)
    assert solver.time_scale.tolist() == [1.0, 0.98, 0.99]
    assert torch.allclose(solver.sigmas, schedules.polynomial(3))
    assert solver.network_calls == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "set-12"}, "no set 'set-1': did you mean set-12"),
        ({"slope_divides_by": "nothing"}, "set-1: the set makes no solver"),
        ({"weights_newest_first": [[1.0]] * 4}, "set-1: the set makes no solver"),
        ({"steps": 10**12, "order": 10**12}, "set-1: the set makes no solver"),
        ({"base_schedule": {"kind": "other"}}, "its base schedule is 'other'"),
    ],
)
def test_what_makes_no_solver_is_named_and_nothing_is_written(written, out, changes, message):
    with pytest.raises(TrainerError, match=message):
        convert(written(**changes), out)
    assert not out.exists()


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.safetensors")), ids=lambda path: path.stem)
def test_the_presets_say_for_what_they_are(path):
    file = dyweight.SolverFile.read(path)
    assert path.stem.endswith(f"-{file.solver.steps}-steps")
    assert file.provenance["model_family"] in {"Flux", "SD15"}
    assert file.provenance["made_by"].startswith("the authors of DyWeight")
    assert {"guidance", "shift", "shape", "cfg", "prediction_type"} <= set(file.provenance)
