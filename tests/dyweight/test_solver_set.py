"""A set of solvers in one file: what it holds, golden bytes, size, and what is no set."""

import json
from pathlib import Path

import pytest
import torch

from dyweight import (
    DyWeight,
    FreeTable,
    Indis,
    LearnedSchedule,
    SolverFile,
    SolverFileError,
    SolverSet,
    load_solver,
    save_solver,
    schedules,
)

GOLDEN = Path(__file__).with_name("golden-set.safetensors")
PROVENANCE = {"model": "golden", "seed": 0, "members": {"2": {"endpoint_error_after": 0.25}, "3": {"seed": 1}}}


def golden_set() -> SolverSet:
    """What golden-set.safetensors holds; it was written once from this and is never written again."""
    two = DyWeight(torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64), order=1)
    three = LearnedSchedule(torch.tensor([1.0, 2 / 3, 1 / 3, 0.0], dtype=torch.float64), "ipndm", 2)
    four = FreeTable(torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0], dtype=torch.float64), schedule={"kind": "flow"})
    with torch.no_grad():
        two.weights.copy_(torch.tensor([[1.125], [0.875]]))
        two.time_scale.copy_(torch.tensor([1.0, 0.9375]))
        three.logits.copy_(torch.tensor([0.25, 0.0, -0.5]))
        four.gains.copy_(torch.tensor([[-0.25, 0, 0, 0], [0.125, -0.5, 0, 0], [0, 0.25, -0.75, 0], [0, 0, 0, -1.0]]))
    return SolverSet([four, two, three])


def assert_equal(found: SolverSet, expected: SolverSet) -> None:
    assert found.settings() == expected.settings() and found.tensors().keys() == expected.tensors().keys()
    for name, tensor in expected.tensors().items():
        assert torch.equal(found.tensors()[name], tensor)
    for steps in expected.steps:
        one, other = found.member(steps).plan(), expected.member(steps).plan()
        assert all(
            torch.equal(getattr(one, name), getattr(other, name)) for name in ("sigmas", "query_sigmas", "gains")
        )


def test_the_golden_file_is_read():
    found = load_solver(GOLDEN)
    assert isinstance(found, SolverSet) and found.steps == (2, 3, 4)
    assert [found.member(steps).family for steps in found.steps] == ["dyweight", "learned-schedule", "free-table"]
    assert_equal(found, golden_set())
    assert not any(parameter.requires_grad for steps in found.steps for parameter in found.member(steps).parameters())


def test_saving_gives_the_golden_bytes(tmp_path):
    for name, solvers in (("made", golden_set()), ("loaded", load_solver(GOLDEN))):
        save_solver(solvers, tmp_path / name, PROVENANCE)
        assert (tmp_path / name).read_bytes() == GOLDEN.read_bytes()


def test_a_member_is_the_solver_for_its_steps_with_what_is_said_of_it():
    file = SolverFile.read(GOLDEN)
    assert file.provenance == PROVENANCE and file.name == "golden-set"
    assert file.member(2).provenance == {"model": "golden", "seed": 0, "endpoint_error_after": 0.25}
    assert file.member(3).provenance == {"model": "golden", "seed": 1}
    assert file.member().solver.steps == 3 == file.solvers.member().steps, "the middle one"
    assert file.member(4).solver is file.solvers.member(4) and file.member(4).path == GOLDEN


@pytest.mark.parametrize("members", [3, [], {"3": 4}, {"3": [1]}, None])
def test_a_provenance_of_another_kind_is_no_error(members, tmp_path):
    save_solver(golden_set(), tmp_path / "a", {"model": "m", "members": members})
    assert SolverFile.read(tmp_path / "a").member(3).provenance == {"model": "m"}


def test_a_member_written_alone_is_a_file_of_one(tmp_path):
    alone = SolverFile.read(GOLDEN).member(2).write(tmp_path / "two.safetensors")
    read = SolverFile.read(tmp_path / "two.safetensors")
    assert isinstance(read.content, DyWeight) and read.provenance == alone.provenance
    assert read.solvers.steps == (2,) and read.member(2).solver is read.member().solver is read.solver is read.content


def test_a_number_of_steps_that_is_not_there_is_an_error_that_says_which_are():
    with pytest.raises(ValueError, match="set steps to 2, 3 or 4: there is no solver for 7"):
        load_solver(GOLDEN).member(7)
    with pytest.raises(SolverFileError, match=r"golden-set\.safetensors: it has solvers for 2, 3 or 4 steps"):
        _ = SolverFile.read(GOLDEN).solver


@pytest.mark.parametrize(
    ("sigmas", "mentioned"),
    [([], "one solver or more"), ([[1, 0.5, 0]] * 2, r"\[2, 2\]"), ([[1, 0.5, 0], [14.6, 3, 1, 0.03]], "14.6")],
)
def test_what_is_no_set(sigmas, mentioned):
    with pytest.raises(ValueError, match=mentioned):
        SolverSet(DyWeight(torch.tensor(one, dtype=torch.float64)) for one in sigmas)


def test_seven_members_take_at_most_30_kilobytes(tmp_path):
    """With everything that a fit says of the model, and the errors of each member."""
    steps = (3, 4, 5, 6, 8, 10, 12)
    members = {
        str(n): {f"{kind}_error_{when}": 0.0123456789012345 for kind in ("endpoint", "validation") for when in "ba"}
        for n in steps
    }
    for order, least, most in ((3, 3_000, 12_000), (12, 10_000, 30_000)):
        solvers = SolverSet(DyWeight(schedules.polynomial(n), order, schedule={"kind": "polynomial"}) for n in steps)
        save_solver(solvers, tmp_path / "a", {"model": "m" * 1000, "members": members})
        assert least < (tmp_path / "a").stat().st_size <= most


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 100])
def test_there_are_sigmas_for_any_number_of_steps(steps):
    solvers = SolverSet(DyWeight(schedules.flow(n, 3.0)) for n in (2, 3, 6))
    sigmas = solvers.sigmas_for(steps)
    assert sigmas.shape == (steps + 1,) and sigmas[0] == 1 and sigmas[-1] == 0 and bool((sigmas.diff() < 0).all())
    if steps in (1, 2, 3):
        assert torch.allclose(sigmas, schedules.flow(steps, 3.0)), "points of the schedule of 6 steps, or its own"


def refused(parts, path: Path, *mentioned: str) -> None:
    path.write_bytes(parts.content())
    with pytest.raises(SolverFileError) as caught:
        load_solver(path)
    assert all(text in str(caught.value) for text in (str(path), *mentioned))


@pytest.fixture
def set_parts(parts):
    return type(parts)(GOLDEN)


@pytest.mark.parametrize("members", [None, {}, [], 3, [3], [{}], [{"family": "dyweight"}], ["dyweight"]])
def test_members_that_are_no_list_of_families_and_settings(members, set_parts, tmp_path):
    set_parts.settings = {"members": members}
    refused(set_parts, tmp_path / "a", "members")


@pytest.mark.parametrize(
    "family", ["set", "indis", "instance-dyweight", "os.system", "", None, 3, ["dyweight"], {"a": 1}]
)
def test_a_member_is_of_a_family_with_one_table_for_all_samples(family, set_parts, tmp_path):
    set_parts.settings["members"][0]["family"] = family
    refused(set_parts, tmp_path / "a", "members", "dyweight, learned-schedule, free-table")


def test_a_solver_with_a_table_for_each_sample_can_not_be_saved_in_a_set(tmp_path):
    solvers = SolverSet([DyWeight(schedules.flow(2)), Indis(schedules.flow(3), (1, 4, 4))])
    with pytest.raises(SolverFileError, match="'indis'"):
        save_solver(solvers, tmp_path / "a", {})
    assert not list(tmp_path.iterdir())


def test_settings_beside_the_members_and_in_them(set_parts, tmp_path):
    for place in (set_parts.settings, set_parts.settings["members"][1], set_parts.settings["members"][1]["settings"]):
        place["other"] = 1
        refused(set_parts, tmp_path / "a", "other" if place is not set_parts.settings["members"][1] else "members")
        del place["other"]
    del set_parts.settings["members"][1]["settings"]["base"]
    refused(set_parts, tmp_path / "a", "base")


def test_members_out_of_order_or_twice(set_parts, tmp_path):
    members = set_parts.settings["members"]
    set_parts.settings["members"] = members[::-1]
    refused(set_parts, tmp_path / "a", "order of steps", "3 comes after 4")
    set_parts.settings["members"] = [*members, members[-1]]
    refused(set_parts, tmp_path / "a", "order of steps", "4 comes after 4")


def test_a_tensor_that_is_missing_or_of_another_member(set_parts, tmp_path):
    for name in ("2.weights", "4.gains"):
        entry = set_parts.header.pop(name)
        refused(set_parts, tmp_path / "a", name)
        set_parts.header["5." + name] = entry
        refused(set_parts, tmp_path / "a", name)
        set_parts.header = {**type(set_parts)(GOLDEN).header}


def test_a_member_whose_numbers_make_no_table(set_parts, tmp_path):
    tensors = {name: tensor.clone() for name, tensor in golden_set().tensors().items()}
    tensors["2.weights"][0] = 9
    set_parts.set_tensors(**tensors)
    refused(set_parts, tmp_path / "a", "family set", "above 0")


def test_members_of_different_models(set_parts, tmp_path):
    set_parts.settings["members"][0]["settings"]["sigmas"] = [14.6, 3, 0.03]
    refused(set_parts, tmp_path / "a", "one model", "14.6")


def test_all_members_together_have_as_many_steps_as_one_solver_may_have(set_parts, tmp_path):
    """A table has steps^2 numbers, and a small file must not ask for many of them."""

    def of(*steps: int) -> None:
        settings = {"schedule": {}, "order": 1, "slope": "state", "analytic_first_step": False}
        settings |= {"time_shifting": True, "time_scaling": True}
        members = [{**settings, "sigmas": list(range(n, -1, -1))} for n in steps]
        # The first sigma is the number of steps, so these are no set in the end.
        set_parts.settings = {"members": [{"family": "dyweight", "settings": one} for one in members]}
        set_parts.set_tensors()

    of(499, 501)
    refused(set_parts, tmp_path / "a", "'499.time_scale'")
    of(500, 501)
    refused(set_parts, tmp_path / "a", "more than 1000 steps in all")


def test_the_header_says_what_it_holds():
    length = int.from_bytes(GOLDEN.read_bytes()[:8], "little")
    header = json.loads(GOLDEN.read_bytes()[8 : 8 + length])
    assert header["__metadata__"]["family"] == "set" and header["__metadata__"]["format_version"] == "1"
    assert json.loads(header["__metadata__"]["provenance"]) == PROVENANCE
    assert set(header) == {"__metadata__", "2.weights", "2.time_scale", "3.logits", "3.log_time_scale"} | {
        "4.gains",
        "4.log_time_scale",
    }
