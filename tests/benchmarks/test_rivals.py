"""The study of rivals: its quick run keeps its own laws, and the search for as good a rival finds what a scan finds."""

import json
import math
from pathlib import Path

import pytest

from benchmarks.harness.bench import FLUX
from benchmarks.harness.study import Figures
from benchmarks.studies import rivals
from dyweight import baselines, schedules


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quick run."""
    out = tmp_path_factory.mktemp("rivals")
    rivals.STUDY.main(["--quick", "--models", "digits", "--out", str(out)])
    return out


@pytest.mark.slow
def test_what_is_learned_beats_what_it_began_as(quick: Path) -> None:
    found = json.loads((quick / "rivals.json").read_text())["numbers"]["digits"]
    by_gauss_newton = {name: given for name, given in rivals.FAMILIES.items() if "method" not in given}
    for family, given in by_gauss_newton.items():
        for steps in ("3", "5"):
            base = given.get("base", "ipndm:4")
            assert found["learned"][family][steps][0] < found["errors"][base][steps]


@pytest.mark.slow
def test_who_equals_dyweight_early_is_as_good_on_the_curve(quick: Path) -> None:
    """And who does not, is worse everywhere on it."""
    found = json.loads((quick / "rivals.json").read_text())["numbers"]["digits"]
    (target,) = found["learned"]["dyweight"]["5"]
    assert set(found["equal"]) == {*found["errors"], *rivals.FAMILIES} and len(found["errors"]) >= 8
    for name, line in found["errors"].items():
        equal = found["equal"][name] or math.inf
        assert all((int(n) >= equal) == (error <= target) for n, error in line.items())
    assert (quick / "study-rivals.png").stat().st_size > 20_000


@pytest.mark.slow
def test_a_second_run_keeps_the_models_of_the_first(quick: Path) -> None:
    before = Figures.read(quick / "rivals.json")
    assert set(before.numbers) == set(before.made) == {"digits"}
    assert rivals.STUDY.main(["--quick", "--models", FLUX, "--out", str(quick)]) == 0
    assert Figures.read(quick / "rivals.json") == before


@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("target", [2.0, 1 / 4, 1 / 9.5, 1 / 40, 1 / 41])
def test_the_search_finds_the_fewest_steps_that_suffice(solver: str, target: float) -> None:
    """For an error of 1 / steps; heun makes two calls a step but for the last."""

    def make(steps: int):
        return baselines.plan(solver, schedules.flow(steps))

    steps = max(2, math.ceil(1 / target))
    calls = make(steps).network_calls
    assert rivals.calls_to_equal(make, lambda steps: 1 / steps, target) == (calls if calls <= 40 else None)
