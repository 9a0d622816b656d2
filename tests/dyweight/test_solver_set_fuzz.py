"""Hostile sets: whatever the bytes are, loading gives solvers that work or a SolverFileError, quickly."""

import json
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dyweight import SolverFileError, SolverSet, load_solver, sample
from dyweight.placement import place

GOLDEN = Path(__file__).with_name("golden-set.safetensors")
SIZE = GOLDEN.stat().st_size
fuzz = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def load(tmp_path):
    """bytes -> the set, each of whose members works, or None where it is refused; within a second."""

    def load(content: bytes) -> SolverSet | None:
        path = tmp_path / "file"
        path.write_bytes(content)
        began = time.process_time()
        try:
            found = load_solver(path)
        except SolverFileError as error:
            assert str(path) in str(error)
            return None
        finally:
            assert time.process_time() - began < 1
        if not isinstance(found, SolverSet):
            return None
        x = torch.ones(1, 2, dtype=torch.float64)
        for steps in found.steps:
            solver = found.member(steps)
            assert solver.steps == steps and solver.plan().rows == solver.rows
            assert sample(lambda x, sigma: x / 2, x, solver.plan()).shape == (1, 2)
        for steps in range(1, found.steps[-1] + 2):
            place(found, found.sigmas_for(steps))
        return found

    return load


@fuzz
@given(flips=st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_bytes_changed(flips, load):
    content = bytearray(GOLDEN.read_bytes())
    for place_, mask in flips:
        content[place_] ^= mask
    load(bytes(content))


@fuzz
@given(kept=st.integers(0, SIZE - 1))
def test_bytes_cut_off(kept, load):
    assert load(GOLDEN.read_bytes()[:kept]) is None


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 5)
    | st.floats()
    | st.sampled_from(["dyweight", "set", "free-table", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["family", "settings"]), inner),
    max_leaves=6,
)


@fuzz
@given(members=st.lists(values, max_size=3) | values, beside=st.dictionaries(st.text(max_size=3), values, max_size=1))
def test_members_of_any_kind(members, beside, parts, load):
    parts = type(parts)(GOLDEN)
    parts.settings = {**beside, "members": members}
    assert load(parts.content()) is None


@fuzz
@given(
    member=st.integers(0, 2),
    field=st.sampled_from(["order", "slope", "sigmas", "schedule", "base", "time_scaling", "family"]),
    value=values | st.lists(st.floats(0, 10), min_size=1, max_size=5),
)
def test_settings_of_a_member_changed(member, field, value, parts, load):
    parts = type(parts)(GOLDEN)
    parts.settings["members"][member]["settings"][field] = value
    load(parts.content())


@fuzz
@given(order=st.permutations(range(3)), kept=st.integers(1, 3), twice=st.booleans())
def test_members_moved_left_out_and_repeated(order, kept, twice, parts, load):
    parts = type(parts)(GOLDEN)
    members = [parts.settings["members"][i] for i in order[:kept]] * (1 + twice)
    parts.settings["members"] = members
    assert (load(parts.content()) is None) == (members != json.loads(parts.metadata["settings"])["members"])


@fuzz
@given(data=st.data(), number=st.just(st.floats(-2, 2) | st.floats()))
def test_any_numbers(data, number, parts, load):
    """With the right shapes, so that they get past the checks of shapes."""
    parts = type(parts)(GOLDEN)
    drawn = {}
    for name, entry in parts.header.items():
        count = torch.Size(entry["shape"]).numel()
        numbers = data.draw(st.lists(number, min_size=count, max_size=count), name)
        drawn[name] = torch.tensor(numbers).double().reshape(entry["shape"])
    parts.set_tensors(**drawn | {"4.gains": drawn["4.gains"].tril().nan_to_num(0.5)})
    load(parts.content())


def test_many_members_take_little_time(parts, load):
    """As many as may be: 44 members have 990 steps in all."""
    parts = type(parts)(GOLDEN)
    settings_of = {"order": 1, "slope": "state", "analytic_first_step": False, "time_shifting": True}
    settings_of |= {"time_scaling": True, "schedule": {}}
    members, tensors = [], {}
    for steps in range(1, 45):
        sigmas = [1 - n / steps for n in range(steps)] + [0.0]
        members.append({"family": "dyweight", "settings": {**settings_of, "sigmas": sigmas}})
        tensors |= {f"{steps}.weights": torch.ones(steps, 1), f"{steps}.time_scale": torch.ones(steps)}
    parts.settings = {"members": members}
    parts.set_tensors(**tensors)
    assert load(parts.content()).steps == tuple(range(1, 45))
