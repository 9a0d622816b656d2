"""What is told of the real size follows from what was measured."""

import pytest

from benchmarks.measurements.real_size import MODELS, PARTS, tables

TIMES = {"seconds": {"euler": 0.2, "dyweight": 0.25}, "ratio": 1.25, "peak": {"euler": 2e9, "dyweight": 3e9}}


def numbers(kind):
    known = {"model": "flux1-dev bf16", "size": 512, "steps": 5}
    fit = {"kind": kind, "calls": 1000, "seconds": 600.0, "peak": 33e9, "sampling": 30e9}
    return {"flux1-dev bf16, 512": {**known, **TIMES}, "flux1-dev bf16, 512, fit": {**known, **fit}}


def cells(text):
    return [cell.strip() for cell in text.splitlines()[-1].strip("|").split("|")]


@pytest.mark.parametrize(("kind", "draft"), [("draft", "10.0 min"), ("few calls", "about 15.0 min")])
def test_a_draft_that_was_not_run_to_its_end_is_marked_as_computed(kind, draft):
    """0.6 s a call: 1,500 calls are 15 minutes, and a normal fit's 6,000 an hour."""
    *_, picture, told, normal = cells(tables(numbers(kind))["what to expect"])
    assert (picture, told, normal) == ("1.25 s", draft, "about 60.0 min")


def test_without_a_fit_the_time_is_that_of_the_samplers_calls():
    (name, sampled), _ = numbers("draft").items()
    found = tables({name: sampled})
    assert cells(found["what to expect"])[-2:] == ["about 6.2 min", "about 25.0 min"] and "fits" not in found


def test_the_fits_memory_stands_beside_that_of_sampling():
    *_, peak, sampling, ratio = cells(tables(numbers("draft"))["fits"])
    assert (peak, sampling, ratio) == ("33.00 GB", "30.00 GB", "1.100")


def test_a_part_alone_gives_its_own_tables_and_a_peak_may_be_unknown():
    name, fit = list(numbers("draft").items())[1]
    assert set(tables({name: {**fit, "peak": None}})) == {"fits"}
    assert cells(tables({name: {**fit, "peak": None}})["fits"])[-3::2] == ["unknown", ""]


def test_every_model_and_size_has_a_part_and_a_fit_where_one_is_wanted():
    assert len(PARTS) == len(set(PARTS)) == sum(1 + bool(kind) for sizes in MODELS.values() for kind in sizes.values())
