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
    solver = convert([written(**changes)], out)
    assert solver.time_scale.tolist() == [1.0, 0.98, 0.99]
    assert torch.allclose(solver.sigmas, schedules.polynomial(3))
    assert solver.network_calls == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "set-12"}, "no set 'set-1': did you mean set-12"),
        ({"slope_divides_by": "nothing"}, "set-1: the set does not make a solver"),
        ({"weights_newest_first": [[1.0]] * 4}, "set-1: the set does not make a solver"),
        ({"steps": 10**12, "order": 10**12}, "set-1: the set does not make a solver"),
        ({"base_schedule": {"kind": "other"}}, "its base schedule is 'other'"),
    ],
)
def test_what_makes_no_solver_is_named_and_nothing_is_written(written, out, changes, message):
    with pytest.raises(TrainerError, match=message):
        convert([written(**changes)], out)
    assert not out.exists()


@pytest.mark.parametrize(("name", "steps"), [("flux1-dev", (3, 5, 7)), ("sd15", (4, 6, 8, 10))])
def test_the_presets_say_for_what_they_are(name, steps):
    file = dyweight.SolverFile.read(PRESETS / f"{name}.safetensors")
    assert file.solvers.steps == steps
    assert file.provenance["model_family"] in {"Flux", "SD15"}
    assert file.provenance["made_by"].startswith("the authors of DyWeight")
    assert {"guidance", "shift", "shape", "cfg", "prediction_type"} <= set(file.provenance)
    assert len({file.member(n).provenance["source"] for n in steps}) == len(steps)


def test_there_are_no_other_presets():
    assert {path.stem for path in PRESETS.iterdir()} == {"flux1-dev", "sd15"}


def test_several_sources_become_one_file_and_what_they_share_is_said_once(tmp_path, out):
    sources = []
    for steps in (4, 2):
        rows = [[0.9 + n / 10, -0.1][: n + 1] for n in range(steps)]
        entry = {
            "source": f"set-{steps}",
            "model": "flux1-dev",
            "steps": steps,
            "order": 2,
            "teacher_steps": 20 + steps,
        }
        entry |= {"analytic_first_step": False, "guidance": {"type": "embedded", "scale": 3.5}, "loss": "mse"}
        entry |= {"slope_divides_by": "query_sigma", "base_schedule": {"kind": "flux_shift"}}
        entry |= {"weights_newest_first": rows, "time_scale": [1 - steps / 100] * steps}
        (tmp_path / f"{steps}.json").write_text(json.dumps({"sets": [entry]}), "utf-8")
        sources.append(f"{tmp_path / f'{steps}.json'}:set-{steps}")
    assert main([*sources, str(out)]) == 0
    file = dyweight.SolverFile.read(out)
    assert file.solvers.steps == (2, 4)
    assert file.member(2).solver.time_scale.tolist() == [0.98, 0.98]
    assert "source" not in file.provenance and file.provenance["loss"] == "mse"
    said = {"2": {"source": "set-2", "teacher": "22 steps"}, "4": {"source": "set-4", "teacher": "24 steps"}}
    assert file.provenance["members"] == said
    alone, again = tmp_path / "alone.safetensors", tmp_path / "again.safetensors"
    assert main([sources[0], str(alone)]) == 0
    assert dyweight.SolverFile.read(alone).provenance == file.member(4).provenance
    file.member(2).write(tmp_path / "two.safetensors")
    assert main([str(alone), str(tmp_path / "two.safetensors"), str(again)]) == 0
    assert again.read_bytes() == out.read_bytes(), "of coefficient files too"


def test_files_that_are_not_for_one_model_and_steps_that_come_twice(tmp_path, out, capsys):
    for name, steps, model in (("a", 2, "one"), ("b", 3, "other"), ("c", 2, "one")):
        dyweight.save_solver(
            dyweight.DyWeight(schedules.flow(steps)), tmp_path / f"{name}.safetensors", {"model": model}
        )
    for others, said in (("ab", "model is one and other"), ("ac", "[2, 2]")):
        assert main([*(str(tmp_path / f"{name}.safetensors") for name in others), str(out)]) == 2
        assert said in capsys.readouterr().err and not out.exists()
