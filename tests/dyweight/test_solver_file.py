"""The coefficient file: round trip, golden bytes, what saving refuses, and that a file appears whole or not at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dyweight
from dyweight import DyWeight, SolverFile, SolverFileError, load_solver, save_solver

SIGMAS = torch.tensor([1.0, 2 / 3, 1 / 3, 0.0], dtype=torch.float64)
PROVENANCE = {"model": "golden", "seed": 0}


def golden_solver() -> DyWeight:
    """What golden.safetensors holds; it was written once from this and is never written again."""
    schedule = {"kind": "flow", "shift": 1.0, "steps": 3}
    solver = DyWeight(SIGMAS, order=2, slope="query", schedule=schedule)
    with torch.no_grad():
        solver.weights.copy_(torch.tensor([[1.125, 0.0], [1.5, -0.5], [0.75, 0.125]]))
        solver.time_scale.copy_(torch.tensor([1.0, 0.9375, 1.0625]))
    return solver


def assert_equal(found: DyWeight, expected: DyWeight) -> None:
    assert found.settings() == expected.settings()
    for name, tensor in expected.tensors().items():
        assert torch.equal(found.tensors()[name], tensor)
    assert torch.equal(found.sigmas, expected.sigmas)
    for name in ("sigmas", "query_sigmas", "gains"):
        assert torch.equal(getattr(found.plan(), name), getattr(expected.plan(), name))


def test_the_golden_file_is_read(golden):
    file = SolverFile.read(golden)
    solver = file.solver
    assert_equal(solver, golden_solver())
    torch.testing.assert_close(solver.sigmas, dyweight.schedules.flow(3), rtol=1e-15, atol=1e-15)
    assert (file.provenance, file.path, file.name) == (PROVENANCE, golden, "golden")
    assert not any(parameter.requires_grad for parameter in solver.parameters())


def test_saving_gives_the_golden_bytes(golden, tmp_path):
    for name, solver in (("made", golden_solver()), ("loaded", load_solver(golden))):
        save_solver(solver, tmp_path / name, PROVENANCE)
        assert (tmp_path / name).read_bytes() == golden.read_bytes()


def test_the_bytes_are_the_same_in_every_process(golden, tmp_path):
    code = "import sys, dyweight; dyweight.SolverFile.read(sys.argv[1]).write(sys.argv[2])"
    runs = []
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code, str(golden), str(tmp_path / seed)]
        root = Path(dyweight.__file__).parents[1]
        runs.append(subprocess.Popen(command, cwd=root, env=os.environ | {"PYTHONHASHSEED": seed}))
    assert [run.wait(120) for run in runs] == [0, 0]
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes() == golden.read_bytes()


@pytest.mark.parametrize("order", [1, 3, 5])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"slope": "query"},
        {"analytic_first_step": True},
        {"time_shifting": False},
        {"time_scaling": False},
        {"schedule": {"kind": "flux", "tokens": 1024, "é": [1.5, None, {}]}},
    ],
)
def test_round_trip_is_exact(options, order, tmp_path):
    solver = DyWeight(dyweight.schedules.polynomial(4), order, **options)
    with torch.no_grad():
        solver.weights += 1e-3 * torch.randn(4, order).tril()
        solver.time_scale += 1e-3 * torch.randn(4)
    provenance = {"guidance": 3.5, "pairs": 64, "note": 'é " \\ \n', "errors": [0.1, {"after": 1e-300}], "none": None}
    save_solver(solver, str(tmp_path / "a"), provenance)
    found = SolverFile.read(str(tmp_path / "a"))
    assert_equal(found.solver, solver)
    assert found.provenance == provenance


def test_json_holds_all_of_a_file_exactly(golden):
    for path in (golden, golden.with_name("golden-set.safetensors")):
        file = SolverFile.read(path)
        found = SolverFile.from_json(json.loads(json.dumps(file.to_json())), "it")
        assert found.provenance == file.provenance and found.path is None
        for steps in file.solvers.steps:
            assert_equal(found.solvers.member(steps), file.solvers.member(steps))


@pytest.mark.parametrize(
    "change",
    [
        {"family": "nobody"},
        {"family": None},
        {"settings": {}},
        {"provenance": "me"},
        {"tensors": {"weights": [[1.0]], "time_scale": [1.0, 1.0, 1.0]}},
        {"tensors": {"weights": "none", "time_scale": [1.0, 1.0, 1.0]}},
        {"tensors": {"weights": [[1.0, 0.0]] * 3, "time_scale": [1.0, 1.0, float("inf")]}},
        {"tensors": [1.0]},
        {"tensors": None},
    ],
    ids=str,
)
def test_json_is_checked_as_a_file_is(golden, change):
    with pytest.raises(SolverFileError, match=r"^the config: "):
        SolverFile.from_json({**SolverFile.read(golden).to_json(), **change}, "the config")
    with pytest.raises(SolverFileError, match=r"^the config: "):
        SolverFile.from_json({"family": "dyweight"}, "the config")


def test_float32_tensors_are_read(parts, tmp_path):
    solver = golden_solver()
    parts.set_tensors(**{name: tensor.float() for name, tensor in solver.tensors().items()})
    (tmp_path / "a").write_bytes(parts.content())
    assert_equal(load_solver(tmp_path / "a"), solver)


class StopError(BaseException):
    """As the interrupts are that `except Exception` does not see."""


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError("disk full"), StopError()])
def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(function, error, golden, tmp_path, monkeypatch):
    path = tmp_path / "solver.safetensors"
    path.write_bytes(golden.read_bytes())

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(error)):
        save_solver(DyWeight(SIGMAS), path, {})
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == golden.read_bytes()


def test_saving_replaces_the_old_file_and_makes_its_folder(golden, tmp_path):
    path = tmp_path / "new" / "folder" / "solver.safetensors"
    for solver in (DyWeight(SIGMAS), golden_solver()):
        save_solver(solver, path, PROVENANCE)
    assert list(path.parent.iterdir()) == [path] and path.read_bytes() == golden.read_bytes()


def nested(depth: int) -> dict:
    value: dict = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "provenance",
    [
        {"error": float("nan")},
        {"tensor": torch.ones(1)},
        {"set": {1}},
        [],
        None,
        {"long": "a" * (1 << 20)},
        nested(100_000),
    ],
    ids=["nan", "tensor", "set", "list", "none", "long", "deep"],
)
def test_saving_refuses_a_provenance_that_could_not_be_read(provenance, tmp_path):
    with pytest.raises(SolverFileError, match=r"a\.safetensors"):
        save_solver(DyWeight(SIGMAS), tmp_path / "a.safetensors", provenance)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("spoil", ["nan", "time", "half", "schedule"])
def test_saving_refuses_a_solver_that_could_not_be_read(spoil, tmp_path):
    solver = golden_solver()
    with torch.no_grad():
        if spoil == "half":
            solver.half()
        elif spoil == "schedule":
            solver.schedule["sigmas"] = SIGMAS
        else:
            solver.weights[0, 0] = {"nan": float("nan"), "time": 9.0}[spoil]
    with pytest.raises(SolverFileError, match=r"a\.safetensors"):
        save_solver(solver, tmp_path / "a.safetensors", PROVENANCE)
    assert not list(tmp_path.iterdir())
