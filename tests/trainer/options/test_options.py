"""The generated command lines: every option, its help, its default, and what is refused."""

import ast
import dataclasses
import inspect
import typing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from comfyui import schedulers
from trainer.options.distill import DistillOptions
from trainer.options.evaluate import EvaluateOptions
from trainer.options.parse import flag, parse
from trainer.run.errors import TrainerError

DISTILL = ["--ckpt", "gmm", "--steps", "5", "--out", "solver.safetensors"]
EVALUATE = ["--ckpt", "gmm", "--solver", "solver.safetensors", "--out", "folder"]
ALWAYS_READ = {"time_shifting", "time_scaling", "analytic_first_step", "resume", "keep_targets"}
COMMANDS: list[tuple[type, list[str]]] = [(DistillOptions, DISTILL), (EvaluateOptions, EVALUATE)]


def docstrings(options: type) -> dict[str, str]:
    """The text under each field, its parents' too, read from the sources."""
    found = {}
    for part in options.__mro__[:-1]:
        tree = ast.parse(Path(inspect.getfile(part)).read_text("utf-8"))
        (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == part.__name__)
        for field, following in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(following, ast.Expr):
                assert isinstance(field.target, ast.Name)
                found[field.target.id] = ast.literal_eval(following.value)
    return found


def squeezed(text: str) -> str:
    """Without spaces, since help is wrapped anywhere."""
    return "".join(text.split())


@pytest.mark.parametrize(("options", "arguments"), COMMANDS)
def test_help_shows_every_option_with_its_docstring(
    options: type, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(options, "program", ["--help"])
    assert stop.value.code == 0
    text = squeezed(capsys.readouterr().out)
    documented = docstrings(options)
    assert documented.keys() == {field.name for field in dataclasses.fields(options)}
    for field in dataclasses.fields(options):
        assert flag(field.name) in text
        assert squeezed(documented[field.name]) in text
        if field.default not in (None, (), "", dataclasses.MISSING):
            assert f"[{field.default}]" in text


@pytest.mark.parametrize(("options", "arguments"), COMMANDS)
def test_defaults_are_those_of_the_dataclass(options: type, arguments: list[str]) -> None:
    parsed = parse(options, "program", arguments)
    for field in dataclasses.fields(options):
        if field.default is not dataclasses.MISSING and f"--{field.name}" not in arguments:
            assert getattr(parsed, field.name) == field.default


@pytest.mark.parametrize(
    ("options", "arguments", "name"),
    [
        (options, arguments, field.name)
        for options, arguments in COMMANDS
        for field in dataclasses.fields(options)
        if typing.get_type_hints(options)[field.name] is bool and field.name in ALWAYS_READ
    ],
)
def test_booleans_can_be_switched_both_ways(options: type, arguments: list[str], name: str) -> None:
    on, off = flag(name), "--no-" + flag(name)[2:]
    assert getattr(parse(options, "program", [*arguments, on]), name) is True
    assert getattr(parse(options, "program", [*arguments, off]), name) is False
    assert getattr(parse(options, "program", [*arguments, off, on]), name) is True


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("--order 2", "order", 2),
        ("--method adam", "method", "adam"),
        ("--pairs 7", "pairs", 7),
        ("--validation-pairs 3", "validation_pairs", 3),
        ("--teacher heun:20", "teacher", "heun:20"),
        ("--seed 5", "seed", 5),
        ("--batch 2", "batch", 2),
        ("--loss huber", "loss", "huber"),
        ("--slope query", "slope", "query"),
        ("--initial euler", "initial", "euler"),
        ("--iterations 9", "iterations", 9),
        ("--difference-step 0.01", "difference_step", 0.01),
        ("--cache folder", "cache", Path("folder")),
        ("--report folder", "report", Path("folder")),
        ("--report-pairs 11", "report_pairs", 11),
    ],
)
def test_every_option_of_distill_reaches_its_field(text: str, name: str, value: Any) -> None:
    assert parse(DistillOptions, "program", [*DISTILL, *text.split()]) == dataclasses.replace(
        DistillOptions("gmm", Path("solver.safetensors"), (5,)), **{name: value}
    )


UNREAD = [
    ("--slope query", "--family indis", "--family dyweight"),
    ("--analytic-first-step", "--family indis", "--family dyweight"),
    ("--initial euler", "--family indis", "--family dyweight"),
    ("--no-time-shifting", "--family learned-schedule", "--family dyweight"),
    ("--no-time-scaling", "--family free-table", "--family dyweight"),
    ("--base dpmpp_2m", "--family dyweight", "--family indis"),
    ("--no-instance", "--family dyweight", "--instance-aware"),
    ("--no-condition", "--family learned-schedule", "--instance-aware"),
    ("--no-shift-factors", "--family free-table", "--instance-aware"),
    ("--order 4", "--instance-aware --start x.safetensors", "--family dyweight"),
    ("--slope query", "--instance-aware --start x.safetensors", "--family dyweight"),
    ("--start x.safetensors", "--family dyweight", "--instance-aware"),
    ("--difference-step 0.1", "--method adam", "--method gauss-newton"),
    ("--learning-rate 0.1", "--method gauss-newton", "--method adam"),
    ("--no-recompute", "--method gauss-newton", "--method adam"),
    ("--huber-delta 2", "--loss l1", "--loss huber"),
]


@pytest.mark.parametrize(("option", "beside", "reader"), UNREAD, ids=lambda text: text.replace(" ", "="))
def test_an_option_that_nothing_would_read_is_refused_and_its_reader_named(
    option: str, beside: str, reader: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(DistillOptions, "program", [*DISTILL, *beside.split(), *option.split()])
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"error: {option}" in line and reader in line and "leave it out" in line
    if reader != "--family dyweight" or "--instance-aware" not in beside:
        chosen = [] if reader == "--instance-aware" else reader.split()
        if chosen:
            others = [] if chosen[0] == beside.split()[0] else beside.split()
            parse(DistillOptions, "program", [*DISTILL, *others, *chosen, *option.split()])


@pytest.mark.parametrize("option", ["--references real", "--clip-score-model ViT-B-32", "--clip-score-weights x"])
def test_an_option_of_a_metric_that_is_not_asked_for_is_refused(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(EvaluateOptions, "program", [*EVALUATE, "--metrics", "lpips", *option.split()])
    assert f"error: {option} is for --metrics" in capsys.readouterr().err.splitlines()[-1]


def test_help_names_every_scheduler_that_is_a_node() -> None:
    help_of = squeezed(docstrings(DistillOptions)["scheduler"])
    assert all(name in help_of and one.node in help_of for name, one in schedulers.NODES.items())


def test_help_is_grouped_by_subject_and_starts_with_what_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(DistillOptions, "program", ["--help"])
    text = capsys.readouterr().out
    places = [text.index(f"\n{title}") for title in ("options:", "the solver:", "the fit:", "pairs of", "ComfyUI ")]
    assert places == sorted(places)
    assert places[0] < text.index("  --ckpt NAME  ") < text.index("  --out PATH  ") < places[1]
    assert places[2] < text.index("\n  --learning-rate X ") < places[3]


def test_the_options_of_evaluate_reach_their_fields() -> None:
    text = "--baselines euler,dpmpp_2m --samples 9 --seed 2 --teacher heun:9 --batch 4 --max-calls 3 --cache c"
    expected = EvaluateOptions(
        "gmm", Path("solver.safetensors"), Path("folder"), None, ("euler", "dpmpp_2m"), 9, 2, "heun:9", 4, 3, Path("c")
    )
    assert parse(EvaluateOptions, "program", [*EVALUATE, *text.split()]) == expected
    spaced = parse(EvaluateOptions, "program", [*EVALUATE, "--baselines", "euler, heun"])
    assert spaced.baselines == ("euler", "heun")


@pytest.mark.parametrize("required", ["--ckpt", "--steps", "--out"])
def test_what_is_required_is_asked_for(required: str, capsys: pytest.CaptureFixture[str]) -> None:
    position = DISTILL.index(required)
    with pytest.raises(SystemExit) as stop:
        parse(DistillOptions, "program", DISTILL[:position] + DISTILL[position + 2 :])
    assert stop.value.code == 2
    assert required in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("--steps 0", "0"),
        ("--steps -3", "-3"),
        ("--steps three", "three"),
        ("--steps 2.5", "2.5"),
        ("--order 0", "0"),
        ("--order 6", "5 steps"),
        ("--pairs 0", "0"),
        ("--pairs -1", "-1"),
        ("--validation-pairs 0", "0"),
        ("--batch 0", "0"),
        ("--iterations 0", "0"),
        ("--report-pairs 0", "0"),
        ("--learning-rate 0", "0"),
        ("--learning-rate nan", "nan"),
        ("--learning-rate inf", "inf"),
        ("--difference-step -1", "-1"),
        ("--difference-step inf", "inf"),
        ("--huber-delta 0", "0"),
        ("--huber-delta nan", "nan"),
        ("--method newton", "newton"),
        ("--loss l3", "l3"),
        ("--slope up", "up"),
        ("--initial random", "random"),
        ("--teacher ipndm", "ipndm"),
        ("--teacher ipndm:0", "ipndm:0"),
        ("--teacher ipndm:-5", "ipndm:-5"),
        ("--teacher ipndm:many", "ipndm:many"),
        ("--teacher idpnm:35", "ipndm"),
        ("--out solver.pt", "solver.pt"),
        ("--out solver", "solver"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(
    text: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(DistillOptions, "program", [*DISTILL, *text.split()])
    assert stop.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert text.split()[0] in line and named in line


@pytest.mark.parametrize("text", ["--samples 0", "--batch -1", "--max-calls 0", "--teacher ipndm:x", "--samples many"])
def test_evaluate_refuses_by_name_too(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(EvaluateOptions, "program", [*EVALUATE, *text.split()])
    assert stop.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert all(part in line for part in text.split())


def test_an_analytic_first_step_needs_a_second_one() -> None:
    with pytest.raises(TrainerError, match=r"--analytic-first-step.*--steps"):
        DistillOptions("gmm", Path("solver.safetensors"), (1,), analytic_first_step=True)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(TrainerError, match=r"--out.*folder\.safetensors"):
        DistillOptions("gmm", tmp_path / "folder.safetensors", (3,))


@pytest.mark.parametrize("method", ["gauss-newton", "adam"])
def test_what_is_left_out_follows_from_the_method(method: Any) -> None:
    options = DistillOptions("gmm", Path("solver.safetensors"), (8,), method=method)
    adam = method == "adam"
    assert (options.batch_size, options.judging_pairs) == ((16, 64) if adam else (4, 8))
    given = dataclasses.replace(options, validation_pairs=2, teacher="heun:9", batch=3)
    assert (given.batch_size, given.judging_pairs, given.teacher) == (3, 2, "heun:9")


def test_options_can_not_be_changed() -> None:
    options = DistillOptions("gmm", Path("solver.safetensors"), (5,))
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.steps = 3  # type: ignore[misc]
