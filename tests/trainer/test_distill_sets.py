"""One file for several numbers of steps: what the fits share, what they may cost, and adding to a file."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import dyweight
import trainer
from benchmarks.models import DigitsFlow
from dyweight import SolverFile, SolverSet
from trainer.fit.budget import calls_of
from trainer.fit.starts import start_of, starts_from
from trainer.run.errors import TrainerError

QUICK = ("--teacher", "ipndm:12", "--batch", 2, "--validation-pairs", 2)


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(value, other.tensors()[name]) for name, value in one.tensors().items())


def test_a_set_is_one_file_with_a_member_for_each_number_of_steps(commands: Any, peaks: Any) -> None:
    outcome = commands.distill(peaks((8,)), "--steps", "4,2,3", "--calls", 2500, *QUICK)
    assert outcome.status == 0, outcome.errors
    file = SolverFile.read(outcome.out)
    assert isinstance(file.content, SolverSet) and file.solvers.steps == (2, 3, 4)
    assert file.provenance["teacher"] == "ipndm:12" and set(file.provenance["members"]) == {"2", "3", "4"}
    for steps in (2, 3, 4):
        member = file.member(steps)
        assert member.provenance["endpoint_error_after"] < member.provenance["endpoint_error_before"]
        assert "teacher" not in file.provenance["members"][str(steps)], "of the model, said once"


@pytest.mark.slow
def test_a_set_takes_at_most_the_told_part_of_the_calls_of_fits_alone(commands: Any, tmp_path: Path) -> None:
    steps = (3, 4, 5)
    arguments = ("--steps", "3,4,5", "--effort", "draft", "--report", tmp_path / "report", "--report-pairs", 4)
    outcome = commands.distill(DigitsFlow(), *arguments)
    (told,) = re.findall(r"; .*at most ([\d,]+) network calls", outcome.printed)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    made = report["network_calls"]["total"]
    assert made <= int(told.replace(",", "")) <= 0.6 * sum(calls_of("draft", n) for n in steps)
    assert made > 0.45 * sum(calls_of("draft", n) for n in steps)
    totals = [int(found.replace(",", "")) for found in re.findall(r"calls ([\d,]+) of at most", outcome.printed)]
    assert totals == sorted(totals) and totals[-1] <= made
    assert set(report["members"]) == {"3", "4", "5"}
    for steps_of in ("3", "4", "5"):
        assert (tmp_path / "report" / steps_of / "coefficients.png").is_file()
    assert (tmp_path / "report" / "error_over_steps.png").is_file()


def test_all_members_have_the_same_pairs_and_the_teacher_runs_once_for_each(commands: Any, peaks: Any) -> None:
    """Endpoints are kept by teacher, seed and batch: one folder for training, one for judging, each pair once."""
    model = peaks((8,))
    outcome = commands.distill(model, "--steps", "2,3,4", "--pairs", 6, "--calls", 3000, "--iterations", 1, *QUICK)
    assert outcome.status == 0, outcome.errors
    cache = commands.folder / "user-cache" / "dyweight" / "targets"
    kept = sorted(path.name for folder in cache.iterdir() for path in folder.iterdir())
    assert len(list(cache.iterdir())) == 2
    assert [name for name in kept if name.startswith("train")] == [f"train-{i:06d}.safetensors" for i in range(3)]
    members = [SolverFile.read(outcome.out).member(steps) for steps in (2, 3, 4)]
    assert {member.provenance["pairs"] for member in members} == {6}


@pytest.mark.parametrize("calls", [1200, 2000, 4000])
def test_a_budget_is_never_exceeded(calls: int, peaks: Any) -> None:
    fitted = trainer.fit_solver(peaks((8,)), (2, 3, 4), calls=calls, batch=2, validation_pairs=1, keep_targets=False)
    assert 0 < fitted.network_calls <= calls


@pytest.mark.parametrize("steps", [3, (3, 4)])
def test_too_small_a_budget_says_how_many_calls_are_enough(steps: Any, peaks: Any) -> None:
    """Of a set before its pairs are made."""
    options: dict[str, Any] = {"teacher": "ipndm:12", "keep_targets": False}
    model = peaks((8,))
    said = r"--calls (\d+) or more, or a smaller --batch: the 100 calls of --calls do not hold the first 4"
    with pytest.raises(TrainerError, match=said) as refused:
        trainer.fit_solver(model, steps, calls=100, **options)
    assert model.calls < (140 if steps == 3 else 30)
    found = re.search(said, str(refused.value))
    assert found is not None
    enough = int(found[1])
    assert trainer.fit_solver(peaks((8,)), steps, calls=enough, **options).network_calls <= enough
    if steps == 3:
        trial = 4 * steps
        with pytest.raises(TrainerError, match=f"--calls {enough} or more"):
            trainer.fit_solver(peaks((8,)), steps, calls=enough - trial - 1, **options)


def test_what_neighbours_learned_is_a_better_start_than_the_usual_one() -> None:
    """The trial before the first, of a solver between two and of one beyond them."""
    model = DigitsFlow()
    fitted = trainer.fit_solver(model, (3, 5), effort="draft", keep_targets=False).solver
    assert isinstance(fitted, SolverSet)
    noise, cond = model.draw(torch.Generator().manual_seed(5), 64)
    for steps in (4, 6):
        new = dyweight.DyWeight(model.schedule(steps))
        teacher = dyweight.baselines.plan("ipndm", model.schedule(60))

        def end(plan: dyweight.Plan) -> torch.Tensor:
            with torch.inference_mode():
                return dyweight.sample(lambda x, sigma: model.denoise(x, sigma, cond), noise, plan)

        target = end(teacher)
        (start,) = starts_from(new, [fitted.member(3), fitted.member(5)])
        errors = [float((end(one.plan()) - target).square().mean()) for one in (start, start_of(new), new)]
        print(steps, errors)
        assert errors[0] < 0.8 * min(errors[1:])


def test_nothing_is_carried_over_from_two_calls_a_step_or_to_a_family_that_takes_no_table() -> None:
    new, flow = dyweight.DyWeight(dyweight.schedules.flow(3)), dyweight.schedules.flow(4)
    assert starts_from(new, [dyweight.DyWeight(flow)]) and not starts_from(new, [])
    assert not starts_from(new, [dyweight.LearnedSchedule(flow, "heun")])
    assert not starts_from(dyweight.FreeTable(new.sigmas), [dyweight.DyWeight(flow)])


def test_a_run_killed_in_the_middle_of_a_member_goes_on_there(commands: Any, peaks: Any) -> None:
    """The members before it are not fitted again; the file is that of an uninterrupted run."""
    arguments = ("--steps", "2,3,4", "--calls", 2500, *QUICK)
    whole, out = peaks((8,)), commands.folder / "whole.safetensors"
    assert commands.distill(whole, *arguments, out=out).status == 0

    def interrupt(calls: int, x: torch.Tensor, sigma: torch.Tensor) -> None:
        if calls == int(0.8 * whole.calls):
            raise KeyboardInterrupt

    model = peaks((8,))
    model.before_call = interrupt
    cut = commands.distill(model, *arguments, "--cache", commands.folder / "cache")
    assert cut.status == 130 and "4 steps" in cut.printed.splitlines() and not cut.out.exists()
    rest = peaks((8,))
    outcome = commands.distill(rest, *arguments, "--cache", commands.folder / "cache", "--resume")
    assert re.search(r"resuming after \d+ lines of 4 steps", outcome.printed)
    assert "3 steps" not in outcome.printed.splitlines()
    assert rest.calls < 0.4 * whole.calls
    assert outcome.out.read_bytes() == out.read_bytes()


@pytest.fixture
def of_two(commands: Any, peaks: Any) -> Path:
    """A file for 2 and 4 steps."""
    out: Path = commands.distill(peaks((8,)), "--steps", "2,4", "--calls", 2500, *QUICK).out
    return out


def test_add_adds_a_member_and_leaves_the_others_as_they_are(commands: Any, peaks: Any, of_two: Path) -> None:
    before = SolverFile.read(of_two)
    outcome = commands.distill(peaks((8,)), "--add", 3, "--calls", 1500, *QUICK)
    assert outcome.status == 0, outcome.errors
    after = SolverFile.read(of_two)
    assert after.solvers.steps == (2, 3, 4)
    for steps in (2, 4):
        assert same(before.solvers.member(steps), after.solvers.member(steps))
        assert before.member(steps).provenance == after.member(steps).provenance
    assert after.member(3).provenance["endpoint_error_after"] < after.member(3).provenance["endpoint_error_before"]


def test_add_to_a_file_of_one_solver_makes_a_set_and_a_known_number_is_replaced(commands: Any, peaks: Any) -> None:
    alone = SolverFile.read(commands.distill(peaks((8,)), "--steps", 3, "--calls", 1500, *QUICK).out)
    assert commands.distill(peaks((8,)), "--add", "2,3", "--calls", 2500, "--order", 2, *QUICK).status == 0
    file = SolverFile.read(alone.path or "")
    assert file.solvers.steps == (2, 3) and file.solvers.member(3).order == 2 != alone.solver.order


def test_solvers_of_one_model_join_whatever_it_was_called(of_two: Path) -> None:
    """What counts is how it behaves."""
    file = SolverFile.read(of_two)
    renamed = SolverFile(file.content, {**file.provenance, "model": "as it was called before"})
    assert SolverFile.joined([renamed.member(2), file.member(4)]).solvers.steps == (2, 4)
    nameless = [
        {k: v for k, v in one.provenance.items() if k not in ("sketch", "fingerprint")} for one in (renamed, file)
    ]
    with pytest.raises(ValueError, match="different models: model is"):
        SolverFile.joined([SolverFile(file.member(n).content, told) for n, told in zip((2, 4), nameless, strict=True)])


def test_add_refuses_a_file_of_another_model(commands: Any, peaks: Any, of_two: Path) -> None:
    content, model = of_two.read_bytes(), peaks((8,))
    model.denoise = lambda x, sigma, cond: 0.99 * peaks.denoise(model, x, sigma, cond)
    outcome = commands.distill(model, "--add", 3, "--calls", 1500, *QUICK)
    assert "--add" in outcome.message and "another model" in outcome.message and str(of_two) in outcome.message
    assert of_two.read_bytes() == content and model.calls <= 20, "before the fit"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--add", 3), r"--add is for a file that is there"),
        (("--steps", 3, "--add", 4), r"give --steps .* or --add"),
        ((), r"give --steps .* or --add"),
        (("--steps", "3,0"), r"--steps is 3,0: give a number above 0"),
        (("--steps", "3,x"), r"--steps"),
        (("--steps", "2,3", "--method", "adam"), r"gauss-newton: fit each number of steps alone"),
        (("--steps", "2,3", "--family", "indis"), r"gauss-newton: fit each number of steps alone"),
        (("--steps", "2,3", "--order", 3), r"--order is 3, but 2 steps"),
    ],
)
def test_what_makes_no_set_says_what_to_do(
    arguments: tuple[object, ...], message: str, commands: Any, peaks: Any
) -> None:
    assert re.search(message, commands.distill(peaks((8,)), *arguments).message)
