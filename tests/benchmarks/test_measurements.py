"""The measurements: their quick runs keep their own laws."""

import statistics

import pytest

from benchmarks.harness.study import Figures
from benchmarks.measurements import (
    between_steps,
    fit_methods,
    fit_sets,
    guidance,
    instance_aware,
    overhead,
    same_model,
    schedule_rules,
    sizes,
    two_experts,
    untrained,
)
from dyweight.sketch import OTHER, SAME
from trainer.checkpoints.comfy.installation import find_comfyui
from trainer.run.errors import CheckpointError


def quick(module, folder, *more):
    """What a quick run keeps of its one part."""
    assert module.STUDY.main(["--quick", "--out", str(folder), *more]) in (0, 1)
    (found,) = Figures.read(folder / f"{module.STUDY.name}.json").numbers.values()
    return found


def test_a_fit_is_compared_with_every_order_and_its_calls_include_the_teachers(tmp_path, capsys):
    found = quick(fit_methods, tmp_path)
    assert {"ipndm:1", "ipndm:2", "ipndm:3", "unipc:2"} <= set(found["handcrafted"]["3"])
    rows = {row["fit"]: row for row in found["rows"]}
    assert set(rows) == set(fit_methods.FITS) and {row["seed"] for row in rows.values()} == {0}
    best = min(found["handcrafted"]["3"].values())
    assert all(0 < row["error"] < best and row["calls"] > 35 * 16 for row in rows.values())
    assert f"{rows['normal']['error'] / best:.3f}" in capsys.readouterr().out
    assert (tmp_path / "digits-errors.png").stat().st_size > 20_000


def test_a_table_for_each_sample_starts_from_the_dyweight_of_its_seed(tmp_path):
    found = quick(instance_aware, tmp_path, "--variants", "indis", "dyweight", "dyweight, instance-aware")
    errors = {name: values[0] for name, values in found["errors"].items()}
    assert errors["dyweight, instance-aware"] == pytest.approx(errors["dyweight"], rel=0.3)
    assert errors["indis"] > errors["dyweight"] < min(found["handcrafted"].values())


@pytest.fixture
def comfyui():
    """Skips a test where there is none."""
    try:
        find_comfyui(None)
    except CheckpointError as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_a_file_is_sampled_at_its_size_and_at_another_and_what_is_learned_is_worth_something(comfyui, tmp_path):
    found = quick(sizes, tmp_path, "--steps", "2", "--samples", "8")
    assert set(found["errors"]) == {"64", "96"}
    for width, errors in found["errors"].items():
        assert len(errors) == 5 and all(len(over_seeds) == 1 for over_seeds in errors.values())
        handcrafted = min(found["handcrafted"][width].values())
        assert max(errors["fitted at this size"] + errors["fitted at both, its own sigmas"]) < handcrafted


@pytest.mark.slow
def test_one_solver_over_two_networks_is_compared_with_comfyuis_samplers_over_both(comfyui, tmp_path):
    found = quick(two_experts, tmp_path, "--seeds", "0", "--networks", str(tmp_path / "networks"))
    handcrafted, (fitted,) = found["handcrafted"]["3"], found["rows"]
    assert {"euler/simple", "ipndm/beta", "deis/karras"} <= handcrafted.keys()
    assert fitted["fit"] == "draft" and fitted["error"] < statistics.median(handcrafted.values())


@pytest.mark.slow
def test_rounding_a_model_leaves_it_the_same_and_random_weights_make_another(comfyui, tmp_path):
    """The two thresholds of `dyweight.sketch` lie where they say."""
    assert same_model.STUDY.main(["--quick", "--out", str(tmp_path)]) == 0
    found = Figures.read(tmp_path / "same-model.json").numbers
    apart = {name.partition(", ")[0]: distance for name, distance in found["distances"].items()}
    assert (
        max(apart["in fp16"], apart["in bf16"])
        < SAME
        < apart["in fp8_e4m3fn"]
        < apart["with weights of 4 bits"]
        < OTHER
    )
    assert apart["another one of its class"] > 2 * OTHER
    strengths = [distance for name, distance in apart.items() if "LoRA" in name]
    assert strengths == sorted(strengths) and strengths[0] < SAME and strengths[-1] > OTHER
    (fits,) = found["fits"].values()
    assert fits["fp32"]["fitted in it"] == fits["fp32"]["sampled in it"]
    (itself,) = fits["fp32"]["fitted in it"]
    assert all(one == [pytest.approx(itself, rel=0.3)] for errors in fits.values() for one in errors.values())


@pytest.mark.slow
def test_a_split_run_begins_as_the_whole_one_and_the_own_schedule_is_the_best(tmp_path):
    rows = quick(schedule_rules, tmp_path)["rows"]
    assert {row["rule"] for row in rows} == {*schedule_rules.RULES} - {"a start above the own"}, "digits is a flow"
    assert {row["own"] for row in rows} == {rows[0]["own"]}
    split = [row for row in rows if row["rule"] == "split in two, no new noise"]
    assert all(row["own"] < min(row["learned"], row["untrained"]) for row in split)
    assert statistics.median(row["learned"] / row["untrained"] for row in split) < 1


def test_the_weights_of_equal_steps_are_those_of_the_real_ones_where_these_are_equal(tmp_path, capsys):
    errors = quick(untrained, tmp_path)["errors"]
    assert set(errors) == {"own", "shift 3", "karras"}
    assert errors["own"]["ipndm:3"] == errors["own"]["ipndm_v:3"]
    assert all(errors[other]["ipndm:3"]["4"] < errors[other]["ipndm_v:3"]["4"] for other in ("shift 3", "karras"))
    ratio = errors["shift 3"]["ipndm:2"]["4"] / errors["shift 3"]["ipndm:3"]["4"]
    assert f"{ratio:.2f}" in capsys.readouterr().out.partition("orders")[2]


def test_the_ways_to_sample_are_timed_by_turns(tmp_path):
    seconds = quick(overhead, tmp_path)["seconds"]
    assert len(seconds) == 3 and min(seconds.values()) > 0


def test_between_two_solvers_what_they_learned_is_worth_something(tmp_path):
    found = quick(between_steps, tmp_path)
    assert set(found["alone"]) == {"3", "4", "5"}
    assert {(row["steps"], row["apart"]) for row in found["rows"]} == {(4, 2)}, "the others have one neighbour"
    errors = {row["rule"]: row["error"] for row in found["rows"]}
    assert set(errors) == set(between_steps.RULES)
    mixed, four = errors[next(iter(errors))], found["alone"]["4"]
    assert max(four["own"][0], mixed) < 0.6 * min(four["untrained"], four["handcrafted"][1])


def test_a_file_is_measured_at_every_number_of_steps_beside_fits_alone(tmp_path):
    found = quick(fit_sets, tmp_path)
    (own,) = found["seeds"].values()
    assert set(own["set"]) == set(own["alone"]) == set(found["untrained"]) == {"3", "4", "5"}
    assert own["set calls"] < own["alone calls"]["3"] + own["alone calls"]["5"]
    for steps in ("3", "5"):
        assert max(own["set"][steps], own["alone"][steps]) < found["handcrafted"][steps][1]


@pytest.mark.slow
def test_guidance_is_compared_at_equal_evaluations(tmp_path, capsys):
    found = quick(guidance, tmp_path)
    fitted = {name: values[0] for name, values in found.items() if isinstance(values, list)}
    assert {one["evaluations"] for one in fitted.values()} == {6}
    assert fitted[guidance.CONSTANT]["guided"] == [] and len(fitted[guidance.EVERY]["guided"]) == 3
    assert len(fitted[guidance.FEWER]["guided"]) == 2
    handcrafted = [one["error"] for one in found.values() if not isinstance(one, list)]
    assert len(handcrafted) == 4 and max(one["error"] for one in fitted.values()) < min(handcrafted)
    below = 100 * (1 - fitted[guidance.EVERY]["error"] / fitted[guidance.CONSTANT]["error"])
    assert f"{below:.0f} %" in capsys.readouterr().out


def test_handcrafted_samplers_with_guidance_in_an_interval_are_what_they_say():
    """Guided in every step at full strength it would be constant guidance; here only in the steps of the place."""
    bench = guidance.Bench(guidance.MODELS[0], quick=True)
    for place, rows in {"first": (0, 1), "middle": (1, 2), "last": (2, 3)}.items():
        plan = guidance.interval(bench, 6, place)["euler, 4 steps, 2 guided, strength 1"]
        assert plan.guided == rows and plan.evaluations == 6
        assert [plan.guidance[i, i] / plan.gains[i, i] for i in rows] == [-2.0, -2.0]
