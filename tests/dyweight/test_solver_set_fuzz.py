"""Hostile sets: whatever the bytes are, loading gives solvers that work or a SolverFileError, quickly."""

import json
from pathlib import Path

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GOLDEN = Path(__file__).with_name("golden-set.safetensors")
ALLOWED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]  # on a busy machine drawing is slow too
fuzz = settings(deadline=None, max_examples=150, suppress_health_check=ALLOWED)


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
