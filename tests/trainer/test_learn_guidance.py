"""`--learn-guidance` from the command line: the file, what is printed, evaluation at equal evaluations, refusals."""

import json
from pathlib import Path
from typing import Any

import pytest

import dyweight
from benchmarks.models import digits_guided
from trainer.fit.evaluations import with_steps
from trainer.options.distill import DistillOptions
from trainer.run.errors import TrainerError

pytestmark = pytest.mark.usefixtures("quick_pictures")


@pytest.mark.slow
def test_the_file_says_what_it_is_for_and_is_compared_at_equal_evaluations(commands: Any, tmp_path: Path) -> None:
    given = (
        "--steps",
        3,
        "--learn-guidance",
        "--unconditional-calls",
        2,
        "--effort",
        "draft",
        "--report",
        tmp_path / "r",
    )
    outcome = commands.distill(digits_guided(), *given)
    assert outcome.status == 0, outcome.errors
    assert "2 of them with the unconditional prediction too, 5 evaluations a sample" in outcome.printed
    file = dyweight.SolverFile.read(outcome.out)
    solver = file.solver
    assert solver.family == "dyweight" and solver.evaluations == 5
    assert file.provenance["cfg"] == solver.guided_at == 3.0
    asked = ", ".join(str(row + 1) for row in solver.guided)
    assert f"5 evaluations: the unconditional prediction too in step {asked}" in outcome.printed
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["network_calls"]["total"] <= 6000
    assert {"4", "6"} <= set(report["error_over_steps"]["euler"]), "evaluations, two a call"

    evaluated = commands.evaluate(digits_guided(), outcome.out, "--samples", 50, "--baselines", "euler,ipndm")
    assert evaluated.status == 0, evaluated.errors
    assert ", 5 network evaluations, 50 samples" in evaluated.printed
    assert evaluated.report()["nfe"] == 5


def test_fewer_steps_have_no_higher_order() -> None:
    given = DistillOptions("digits", steps=(4,), learn_guidance=True, evaluations=5, order=4, out=Path("x.safetensors"))
    tried = list[DistillOptions]()

    def error_of(draft: DistillOptions) -> float:
        tried.append(draft)
        return -draft.members[0]

    chosen = with_steps(given, error_of, str)
    assert [(draft.members, draft.order) for draft in tried] == [((3,), 3), ((4,), 4)]
    assert (chosen.members, chosen.order, chosen.unconditional_calls) == ((4,), 4, 1)


def test_calls_that_do_not_hold_the_drafts_are_told_for_all_of_them() -> None:
    """They have half of the calls together: of 2 drafts each a quarter."""
    given = DistillOptions(
        "digits", steps=(4,), learn_guidance=True, evaluations=5, calls=1000, out=Path("unused.safetensors")
    )

    def error_of(draft: DistillOptions) -> float:
        assert draft.calls == 250
        raise TrainerError("give --calls {needed} or more: {whole} do not do", needed=300, whole=draft.calls)

    with pytest.raises(TrainerError, match="give --calls 1200 or more: 1000 do not do"):
        with_steps(given, error_of, str)


def test_a_solver_is_not_added_with_steps_that_are_to_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "there.safetensors").write_bytes(b"")
    given = DistillOptions("digits", add=(4,), learn_guidance=True, evaluations=5, out=tmp_path / "there.safetensors")
    with pytest.raises(TrainerError, match="give --steps, the most that it may choose, not --add"):
        with_steps(given, lambda draft: 0.0, str)


@pytest.mark.slow
def test_the_best_share_of_some_evaluations_is_chosen_and_told(commands: Any) -> None:
    outcome = commands.distill(
        digits_guided(), "--steps", 3, "--evaluations", 3, "--learn-guidance", "--effort", "draft"
    )
    assert outcome.status == 0, outcome.errors
    announced, told = outcome.printed.splitlines()[:2]
    assert announced == "trying 2 steps, 1 guided: at most 6,000 network calls"
    assert told.startswith("3 evaluations by 2 steps, 1 guided: endpoint error")
    assert dyweight.load_solver(outcome.out).evaluations == 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--steps", 3, "--unconditional-calls", 2), "--unconditional-calls 2 is for --learn-guidance"),
        (("--steps", 3, "--evaluations", 4), "--evaluations 4 is for --learn-guidance"),
        (("--steps", 3, "--learn-guidance", "--evaluations", 7), "--evaluations is 7: 3 steps make 2 to 6"),
        (("--steps", 3, "--learn-guidance", "--evaluations", 1), "--evaluations is 1: 3 steps make 2 to 6"),
        (
            ("--steps", 3, "--learn-guidance", "--evaluations", 4, "--unconditional-calls", 1),
            "leave out --unconditional-calls",
        ),
        (("--learn-guidance", "--steps", 3, "--unconditional-calls", 4), "at most one for each of the 3 steps"),
        (
            ("--learn-guidance", "--steps", 3, "--unconditional-calls", 3, "--analytic-first-step"),
            "at most one for each of the 2 steps",
        ),
        (("--learn-guidance", "--steps", 3, "--unconditional-calls", 2, "--method", "adam"), "--method adam asks for"),
        (("--learn-guidance", "--steps", 3, "--family", "free-table"), "--learn-guidance is for --family dyweight"),
    ],
)
def test_options_that_do_not_go_together(arguments: tuple[object, ...], complaint: str, commands: Any) -> None:
    assert complaint in commands.distill(digits_guided(), *arguments).message


def test_a_checkpoint_without_guidance_is_refused(commands: Any) -> None:
    message = commands.distill("digits", "--steps", 3, "--learn-guidance").message
    assert "--learn-guidance: --ckpt digits is sampled without classifier-free guidance" in message
