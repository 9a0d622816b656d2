"""Hostile files: whatever the bytes are, loading gives a solver that works or a SolverFileError, quickly."""

import json
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dyweight import DyWeight

ALLOWED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]  # on a busy machine drawing is slow too
fuzz = settings(deadline=None, max_examples=200, suppress_health_check=ALLOWED)


FILES = ("golden", "golden-set")
SIZE = 2_000
"""At least that of each."""


def content_of(file):
    content = Path(__file__).with_name(f"{file}.safetensors").read_bytes()
    assert len(content) <= SIZE
    return content


@fuzz
@given(content=st.binary(max_size=400))
def test_random_bytes(content, load):
    assert load(content) is None
    assert load(len(content).to_bytes(8, "little") + content) is None


@pytest.mark.parametrize("file", FILES)
@fuzz
@given(flips=st.lists(st.tuples(st.integers(0, SIZE), st.integers(1, 255)), min_size=1, max_size=4))
def test_bytes_changed(file, flips, load):
    content = bytearray(content_of(file))
    for place, mask in flips:
        content[place % len(content)] ^= mask
    load(bytes(content))


@pytest.mark.parametrize("file", FILES)
@fuzz
@given(kept=st.integers(0, SIZE))
def test_bytes_cut_off(file, kept, load):
    content = content_of(file)
    assert load(content[: kept % len(content)]) is None


@pytest.mark.parametrize("file", FILES)
@fuzz
@given(place=st.integers(0, SIZE), inserted=st.binary(min_size=1, max_size=16), removed=st.integers(0, 16))
def test_bytes_put_in_and_taken_out(file, place, inserted, removed, load):
    content = content_of(file)
    place %= len(content) + 1
    load(content[:place] + inserted + content[place + removed :])


numbers = st.one_of(
    st.integers(-2, 5), st.floats(), st.sampled_from([1e308, -1e308, 5e-324, 10**9, 10**12, 2**63, 2**64, 10**400])
)
values = st.recursive(
    st.none()
    | st.booleans()
    | numbers
    | st.text(max_size=5)
    | st.sampled_from(["state", "query", "euler", "F64", "F32"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
decreasing = st.lists(st.floats(0, 100), min_size=1, max_size=5, unique=True).map(lambda s: sorted(s, reverse=True))
SETTINGS = {
    "order": st.integers(0, 5) | values,
    "slope": st.sampled_from(["state", "query"]) | values,
    "analytic_first_step": st.booleans() | values,
    "time_shifting": st.booleans() | values,
    "time_scaling": st.booleans() | values,
    "sigmas": decreasing | values,
    "schedule": values,
    "initial": values,
    "self": values,
}


@fuzz
@given(data=st.data(), changed=st.lists(st.sampled_from(list(SETTINGS)), max_size=3, unique=True))
def test_settings_changed(data, changed, parts, load):
    parts = type(parts)()
    for field in changed:
        parts.settings[field] = data.draw(SETTINGS[field], field)
    load(parts.content())


@fuzz
@given(
    data=st.data(),
    sigmas=decreasing,
    order=st.integers(0, 5),
    precision=st.sampled_from([torch.float32, torch.float64]),
)
def test_tensors_of_the_shape_that_the_settings_ask_for(data, sigmas, order, precision, parts, load):
    """These get past the checks of shapes, to the solver itself."""
    width = 32 if precision == torch.float32 else 64
    number = st.floats(-2, 2, width=width) | st.floats(width=width)

    def drawn(*shape):
        count = torch.Size(shape).numel()
        return torch.tensor(data.draw(st.lists(number, min_size=count, max_size=count)), dtype=precision).reshape(shape)

    steps = len(sigmas) - 1
    parts.set_tensors(weights=drawn(steps, order), time_scale=drawn(steps))
    parts.settings |= {"sigmas": sigmas, "order": order}
    for field in data.draw(
        st.lists(st.sampled_from(["slope", "analytic_first_step", "time_shifting", "time_scaling"]))
    ):
        parts.settings[field] = data.draw(SETTINGS[field], field)
    load(parts.content())


OTHER_SETTINGS = {
    "base": st.sampled_from(["euler", "heun", "unipc", "nothing"]) | values,
    "order": st.integers(0, 5) | values,
    "time_scaling": st.booleans() | values,
    "sigmas": decreasing | values,
    "schedule": st.just({}) | values,
    "self": values,
}
FAMILIES = {
    "learned-schedule": {"base": "ipndm", "order": 0, "time_scaling": True, "sigmas": [1.0, 0.5, 0.0], "schedule": {}},
    "free-table": {"sigmas": [1.0, 0.5, 0.0], "schedule": {}},
}


@pytest.mark.parametrize("family", FAMILIES)
@fuzz
@given(
    data=st.data(),
    sigmas=decreasing,
    changed=st.lists(st.sampled_from(list(OTHER_SETTINGS)), max_size=2, unique=True),
)
def test_schedules_and_tables_of_any_numbers(family, data, sigmas, changed, parts, load):
    """With tensors of the right shape, so that they get past the checks of shapes."""
    parts = type(parts)()
    parts.metadata["family"], parts.settings = family, FAMILIES[family] | {"sigmas": sigmas}
    for field in changed:
        parts.settings[field] = data.draw(OTHER_SETTINGS[field], field)
    number, steps = st.floats(-2, 2) | st.floats(), len(sigmas) - 1

    def drawn(*shape):
        count = torch.Size(shape).numel()
        return torch.tensor(data.draw(st.lists(number, min_size=count, max_size=count))).double().reshape(shape)

    if family == "learned-schedule":
        parts.set_tensors(logits=drawn(steps), log_time_scale=drawn(steps))
    else:
        gains = drawn(steps, steps)
        parts.set_tensors(gains=gains if data.draw(st.booleans()) else gains.tril(), log_time_scale=drawn(steps))
    load(parts.content())


@fuzz
@given(
    name=st.sampled_from(["weights", "time_scale", "__metadata__", "other"]),
    entry=st.fixed_dictionaries(
        {},
        optional={
            "dtype": st.sampled_from(["F64", "F32", "F16", "I64", "BOOL", "F8_E4M3", ""]) | values,
            "shape": st.lists(numbers, max_size=3) | values,
            "data_offsets": st.lists(numbers, min_size=2, max_size=2) | st.just([24, 72]) | values,
        },
    )
    | values,
)
def test_entries_changed(name, entry, parts, load):
    parts = type(parts)()
    whole = {"__metadata__": parts.metadata, **parts.header}
    whole[name] = entry
    header = json.dumps(whole).encode()
    load(len(header).to_bytes(8, "little") + header + parts.data)


@fuzz
@given(metadata=st.dictionaries(st.sampled_from(["format_version", "family", "settings", "provenance", "x"]), values))
def test_metadata_changed(metadata, parts, load):
    parts = type(parts)()
    header = json.dumps({"__metadata__": parts.metadata | metadata, **parts.header}).encode()
    load(len(header).to_bytes(8, "little") + header + parts.data)


@pytest.fixture
def read_in_little_memory(read):
    resource = pytest.importorskip("resource")
    unit = 1 if sys.platform == "darwin" else 1024

    def check(content: bytes) -> DyWeight | None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = read(content)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
        assert grown < (50 << 20), f"{grown >> 20} MiB for a file of {len(content)} bytes"
        return found

    return check


@pytest.mark.parametrize("shape", [[10**12], [3, 10**12], [10**9, 10**9], [3, 10**9], [2**63, 2], [0, 10**12]])
def test_a_huge_shape_takes_no_memory(shape, parts, read_in_little_memory):
    parts.header["weights"]["shape"] = shape
    assert read_in_little_memory(parts.content()) is None


def test_a_huge_order_takes_no_memory(parts, read_in_little_memory):
    """With a shape that agrees, and with sigmas that make an empty tensor of it."""
    parts.settings["order"] = 10**9
    assert read_in_little_memory(parts.content()) is None
    parts.header["weights"]["shape"] = [3, 10**9]
    assert read_in_little_memory(parts.content()) is None
    parts.settings["sigmas"] = [1.0]
    parts.header["weights"] |= {"shape": [0, 10**9], "data_offsets": [0, 0]}
    parts.header["time_scale"] |= {"shape": [0], "data_offsets": [0, 0]}
    parts.data = b""
    assert read_in_little_memory(parts.content()) is None


@pytest.mark.parametrize(("steps", "order"), [(4000, 1), (40, 40)])
def test_many_steps_take_little_time_and_memory(steps, order, parts, read_in_little_memory):
    """A table has steps^2 numbers, general initial weights cost order^3 a step: a small file must not ask for them."""
    euler = torch.zeros(steps, order)
    euler[:, 0] = 1
    parts.set_tensors(weights=euler, time_scale=torch.ones(steps))
    parts.settings |= {"order": order, "sigmas": list(range(steps, -1, -1))}
    read_in_little_memory(parts.content())


def test_many_steps_of_other_families_take_little_time_and_memory(parts, read_in_little_memory):
    """A free table brings its steps^2 numbers with it; a learned schedule has 100 steps at most."""
    for family, settings_of in FAMILIES.items():
        for steps in (100, 300, 4000):
            parts.metadata["family"], parts.settings = family, settings_of | {"sigmas": list(range(steps, -1, -1))}
            if family == "learned-schedule":
                parts.settings["base"] = "unipc"
                parts.set_tensors(logits=torch.zeros(steps), log_time_scale=torch.zeros(steps))
            else:
                parts.set_tensors(
                    gains=torch.zeros(min(steps, 300), min(steps, 300)), log_time_scale=torch.zeros(steps)
                )
            solver = read_in_little_memory(parts.content())
            assert (solver is None) == (steps > (100 if family == "learned-schedule" else 300))
