"""Learned guidance in the coefficient file: golden bytes, sets, refusals, hostile settings."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dyweight import DyWeight, SolverFileError, SolverSet, load_solver, sample, save_solver

GOLDEN = Path(__file__).with_name("golden-guidance.safetensors")
PROVENANCE = {"model": "golden", "seed": 0}


def golden_solver() -> DyWeight:
    """What golden-guidance.safetensors holds; it was written once from this and is never written again."""
    sigmas = torch.tensor([1.0, 2 / 3, 1 / 3, 0.0], dtype=torch.float64)
    solver = DyWeight(sigmas, order=2, learned_guidance={"cfg": 7.5, "guided": [0, 2]})
    with torch.no_grad():
        solver.weights.copy_(torch.tensor([[1.125, 0.0], [1.5, -0.5], [0.75, 0.125]]))
        solver.time_scale.copy_(torch.tensor([1.0, 0.9375, 1.0625]))
        solver.guidance_weights.copy_(torch.tensor([[1.25, 0.0], [0.5, 0.0], [0.625, 0.375]]))
    return solver


def test_the_golden_file_is_read_and_written(tmp_path):
    found, expected = load_solver(GOLDEN), golden_solver()
    assert found.settings() == expected.settings()
    assert found.guided == (0, 2) and found.guided_at == 7.5 and found.evaluations == 5
    assert torch.equal(found.plan().guidance, expected.plan().guidance.detach())
    for solver in (found, expected):
        save_solver(solver, tmp_path / "a", PROVENANCE)
        assert (tmp_path / "a").read_bytes() == GOLDEN.read_bytes()


def test_a_member_of_a_set_has_it(tmp_path):
    other = DyWeight(torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64))
    save_solver(SolverSet([other, golden_solver()]), tmp_path / "a", {})
    found = load_solver(tmp_path / "a")
    assert found.member(3).guided == (0, 2) and found.member(2).guided == ()
    assert torch.equal(found.member(3).guidance_weights, golden_solver().guidance_weights)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "all",
        True,
        {},
        {"cfg": 7.5},
        {"guided": [0]},
        {"cfg": 7.5, "guided": [0], "more": 1},
        {"cfg": 1, "guided": [0]},
        {"cfg": 1.0, "guided": [0]},
        {"cfg": "7.5", "guided": [0]},
        {"cfg": True, "guided": [0]},
        {"cfg": None, "guided": [0]},
        {"cfg": 10**400, "guided": [0]},
        {"cfg": 7.5, "guided": []},
        {"cfg": 7.5, "guided": [3]},
        {"cfg": 7.5, "guided": [-1]},
        {"cfg": 7.5, "guided": [0, 0]},
        {"cfg": 7.5, "guided": [2, 0]},
        {"cfg": 7.5, "guided": [True]},
        {"cfg": 7.5, "guided": [0.0]},
        {"cfg": 7.5, "guided": "0"},
        {"cfg": 7.5, "guided": 0},
    ],
    ids=str,
)
def test_settings_that_are_refused(value, tmp_path, parts_of):
    parts = parts_of(GOLDEN)
    parts.settings["learned_guidance"] = value
    (tmp_path / "a").write_bytes(parts.content())
    with pytest.raises(SolverFileError, match=str(tmp_path / "a")) as error:
        load_solver(tmp_path / "a")
    assert "learned_guidance" in str(error.value) or "int too large" in str(error.value)


def test_the_setting_and_its_tensor_go_together(tmp_path, parts_of):
    for drop in ("setting", "tensor"):
        parts, tensors = parts_of(GOLDEN), golden_solver().tensors()
        if drop == "setting":
            del parts.settings["learned_guidance"]
        else:
            del tensors["guidance_weights"]
        parts.set_tensors(**tensors)
        (tmp_path / "a").write_bytes(parts.content())
        with pytest.raises(SolverFileError, match="guidance_weights"):
            load_solver(tmp_path / "a")


def test_with_an_analytic_first_step_the_first_row_asks_nothing(tmp_path, parts_of):
    parts = parts_of(GOLDEN)
    parts.settings["analytic_first_step"] = True
    (tmp_path / "a").write_bytes(parts.content())
    with pytest.raises(SolverFileError, match="give some of the rows 1 to 2"):
        load_solver(tmp_path / "a")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["cfg", "guided", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=json_values | st.builds(lambda c, g: {"cfg": c, "guided": g}, json_values, json_values),
    numbers=st.lists(st.floats(width=64), min_size=6, max_size=6),
)
def test_whatever_stands_there_it_works_or_is_refused(value, numbers, tmp_path, parts_of):
    parts = parts_of(GOLDEN)
    parts.settings["learned_guidance"] = value
    tensors = golden_solver().tensors()
    parts.set_tensors(**tensors | {"guidance_weights": torch.tensor(numbers, dtype=torch.float64).reshape(3, 2)})
    (tmp_path / "a").write_bytes(parts.content())
    try:
        solver = load_solver(tmp_path / "a")
    except SolverFileError:
        return
    assert json.loads(json.dumps(solver.settings())) == solver.settings()
    x = torch.ones(1, 2, dtype=torch.float64)

    def denoise(x, sigma, guided):
        return (x / 2, x / 3) if guided else x / 2

    assert sample(denoise, x, solver.plan()).shape == x.shape
