"""The study of teachers, pairs and convergence: complete in its quick mode, and its laws."""

import json

import pytest

from benchmarks.studies.teachers import CONFIGURATIONS, QUICK, STUDY


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Numbers of `--quick`."""
    folder = tmp_path_factory.mktemp("teachers")
    assert STUDY.main(["--quick", "--models", "gmm", "--out", str(folder)]) == 0
    assert (folder / "study-teachers.png").stat().st_size > 10_000
    return json.loads((folder / "teachers.json").read_text("utf-8"))["numbers"]["gmm"]


@pytest.mark.slow
def test_a_student_ends_farther_from_the_fine_endpoint_than_its_teacher(quick):
    for rows in quick["teachers"].values():
        assert set(rows) == set(QUICK.teachers)
        assert all(min(row["students"]) > row["teacher"] for row in rows.values())
        assert rows["ipndm:35"]["teacher"] < rows["ipndm:10"]["teacher"]


@pytest.mark.slow
def test_the_way_from_the_student_to_the_fine_endpoint_leads_over_its_teacher(quick):
    """The triangle inequality, of root mean squares."""
    for rows in quick["teachers"].values():
        for row in rows.values():
            for student, to_itself in zip(row["students"], row["against itself"], strict=True):
                assert abs(student**0.5 - row["teacher"] ** 0.5) <= to_itself**0.5 * 1.02


@pytest.mark.slow
def test_every_configuration_starts_untrained_and_sees_all_pairs(quick):
    found = quick["convergence"]
    assert set(found) == set(CONFIGURATIONS)
    for row in found.values():
        assert row["pairs"][0] == 0 and row["pairs"][-1] == QUICK.convergence
        assert len(row["validation"]) == len(row["pairs"]) == len(row["training"]) + 1
    assert found["euler, order 3"]["validation"][0] == found["euler, order 5"]["validation"][0]
