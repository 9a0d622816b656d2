"""What --ckpt names, and what is said where it names nothing that can be distilled."""

from collections.abc import Callable
from dataclasses import make_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainer.checkpoints import load
from trainer.checkpoints.builtin.gmm import checkpoint
from trainer.checkpoints.load import Kind, checked, load_checkpoint
from trainer.checkpoints.protocol import full
from trainer.options.checkpoint import CheckpointOptions
from trainer.run.errors import CheckpointError, TrainerError


def changed(**parts: Any) -> SimpleNamespace:
    """A checkpoint of two dimensions with some parts replaced, or taken away by None."""
    mixture = checkpoint(2)
    complete = {name: getattr(mixture, name) for name in ("shape", "schedule", "draw", "denoise")} | parts
    return SimpleNamespace(**{name: part for name, part in complete.items() if part is not None})


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *(("digits", (1, 8, 8)), ("shapes", (3, 16, 16)), ("photographs", (3, 16, 16))),
        *(("gmm", (16,)), ("gmm:3", (3,)), ("gmm:128", (128,))),
    ],
)
def test_built_in_names(name: str, shape: tuple[int, ...]) -> None:
    assert tuple(load_checkpoint(name).shape) == shape


def test_a_callable_of_a_module() -> None:
    assert tuple(load_checkpoint("trainer.checkpoints.builtin.gmm:checkpoint").shape) == (16,)


def test_a_callable_of_a_file(peaks_file: Callable[..., str]) -> None:
    found = load_checkpoint(peaks_file())
    noise, cond = found.draw(torch.Generator().manual_seed(0), 2)
    assert noise.shape == (2, 4) and cond is None


def test_a_file_may_import_what_lies_beside_it(tmp_path: Path, peaks_file: Callable[..., str]) -> None:
    (tmp_path / "helper_of_a_users_model.py").write_text("FACTOR = 3\n")
    name = peaks_file(("import torch", "import torch\nfrom helper_of_a_users_model import FACTOR"))
    assert load_checkpoint(name) is not None


def test_a_changed_file_is_read_again(peaks_file: Callable[..., str]) -> None:
    assert tuple(load_checkpoint(peaks_file()).shape) == (4,)
    assert tuple(load_checkpoint(peaks_file(("shape = (4,)", "shape = (7,)"))).shape) == (7,)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("digts", "digits"),
        ("Digits", "digits"),
        ("shape", "shapes"),
        ("gm", "gmm"),
        ("something", "something"),
        ("", "no such checkpoint"),
        (":", ":"),
        ("my_model.py", "my_model.py:checkpoint"),
        (r"C:\models\flux1-dev.safetensors", "there is no such file"),
        ("no_such_module:make", "no_such_module"),
        ("trainer.no_such_module:make", "trainer.no_such_module"),
        (".relative:make", "relative"),
        ("no/such/file.py:make", "no/such/file.py"),
        ("trainer.checkpoints.builtin.gmm:checkpont", "did you mean checkpoint"),
        ("trainer.checkpoints.builtin.gmm:SIGMA_MAX", "SIGMA_MAX"),
        ("gmm:0", "gmm:0"),
        ("gmm:two", "gmm:two"),
        ("gmm:-2", "gmm:-2"),
        ("gmm:", "gmm:"),
        ("torch:zeros", "torch:zeros"),
        ("collections:OrderedDict", "denoise"),
    ],
)
def test_a_name_that_leads_nowhere_is_a_clear_error(name: str, said: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(name)
    message = str(caught.value)
    assert "--ckpt" in message and said in message and "\n" not in message


def test_a_missing_callable_of_a_file_names_the_file_and_the_nearest(peaks_file: Callable[..., str]) -> None:
    with pytest.raises(CheckpointError, match=r"model\.py.*mak.*make"):
        load_checkpoint(peaks_file().removesuffix("e"))


def test_options_of_comfyui_are_refused_for_other_models(peaks_file: Callable[..., str]) -> None:
    for name in ("gmm", "gmm:3", "digits", peaks_file()):
        with pytest.raises(
            CheckpointError, match=r"--cfg is for checkpoints of diffusers or ComfyUI, and --ckpt .*leave"
        ):
            load_checkpoint(name, CheckpointOptions(cfg=2.0))


def test_the_first_kind_that_takes_a_name_loads_it_and_refuses_the_options_of_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    of_folders = Kind("folders", make_dataclass("None", ()), lambda name: Path(name).is_dir(), lambda *given: changed())
    monkeypatch.setattr(load, "KINDS", (of_folders, *load.KINDS))
    assert tuple(load_checkpoint(str(tmp_path)).shape) == (2,)
    with pytest.raises(CheckpointError, match=r"--lora is for checkpoints of ComfyUI, and --ckpt .*leave it out"):
        load_checkpoint(str(tmp_path), CheckpointOptions(lora=("a",)))


def test_a_model_that_changes_its_x_is_refused(peaks: Any) -> None:
    wrong = peaks()
    wrong.denoise = lambda x, sigma, cond: x.mul_(0.5)
    with pytest.raises(CheckpointError, match="denoise changed its x"):
        full(wrong).denoise(torch.ones(2, 4), torch.ones(2), None)


@pytest.mark.parametrize("back", [lambda x, sigma, cond: x, lambda x, sigma, cond: x.clone()])
def test_a_model_that_gives_back_its_x_is_refused(peaks: Any, back: Callable[..., Any]) -> None:
    """All samplers would end where they began, and the error be 0 before and after."""
    wrong = peaks()
    wrong.denoise = back
    with pytest.raises(CheckpointError, match="denoise gave back its x"):
        checked(wrong, "wrong").denoise(*wrong.draw(torch.Generator().manual_seed(0), 2)[:1], torch.ones(2), None)


def test_answers_without_a_gradient_are_told_once_where_one_is_needed(
    peaks: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = peaks()
    wrong.denoise = torch.no_grad()(wrong.denoise)
    checkpoint, x = full(wrong), torch.ones(2, 4)
    checkpoint.denoise(x, torch.ones(2), None)
    with torch.no_grad():
        checkpoint.denoise(x.requires_grad_(), torch.ones(2), None)
    assert capsys.readouterr().out == ""
    for _ in range(2):
        checkpoint.denoise(x, torch.ones(2), None)
    assert capsys.readouterr().out.count("without a gradient") == 1


def test_an_import_that_fails_inside_a_users_module_is_not_hidden(peaks_file: Callable[..., str]) -> None:
    """The message must name what is missing, not the module that exists."""
    with pytest.raises((ModuleNotFoundError, TrainerError), match="no_such_library"):
        load_checkpoint(peaks_file(("import torch", "import torch, no_such_library")))


@pytest.mark.parametrize("part", ["denoise", "shape", "schedule", "draw"])
def test_a_missing_part_is_named(part: str) -> None:
    with pytest.raises(CheckpointError, match=f"--ckpt mine: .*{part}"):
        checked(changed(**{part: None}), "mine")


@pytest.mark.parametrize(
    "schedule",
    [
        lambda steps: torch.linspace(1, 0, steps),
        lambda steps: torch.linspace(0, 1, steps + 1),
        lambda steps: torch.linspace(1, -1, steps + 1),
        lambda steps: torch.ones(steps + 1),
        lambda steps: torch.full((steps + 1,), torch.nan),
        lambda steps: torch.cat([torch.tensor([torch.inf]), torch.linspace(1, 0, steps)]),
        lambda steps: torch.linspace(1, 0, steps + 1)[None],
        lambda steps: torch.linspace(1, 0, steps + 1).tolist(),
        lambda steps: None,
    ],
    ids=["short", "rising", "negative", "constant", "nan", "infinite", "two axes", "a list", "nothing"],
)
def test_a_wrong_schedule_is_a_clear_error(schedule: Callable[[int], Any]) -> None:
    with pytest.raises(CheckpointError, match=r"--ckpt mine: schedule\(3\)"):
        checked(changed(schedule=schedule), "mine")


@pytest.mark.parametrize(
    "draw",
    [
        lambda generator, batch: (torch.randn(batch, 3), None),
        lambda generator, batch: (torch.randn(2), None),
        lambda generator, batch: (torch.randn(1, 2), None),
        lambda generator, batch: torch.randn(batch, 2),
        lambda generator, batch: (torch.randn(batch, 2), None, None),
        lambda generator, batch: ([[0.0, 0.0]] * batch, None),
        lambda generator, batch: (torch.zeros(batch, 2, dtype=torch.int64), None),
        lambda generator, batch: (torch.full((batch, 2), torch.nan), None),
    ],
    ids=["wide", "no batch", "one", "noise alone", "three", "a list", "integers", "nan"],
)
def test_a_wrong_draw_is_a_clear_error(draw: Callable[..., Any]) -> None:
    with pytest.raises(CheckpointError, match=r"--ckpt mine: draw\(generator, 2\)"):
        checked(changed(draw=draw), "mine")


@pytest.mark.parametrize("captions", [["one"], "ab", [1, 2], []], ids=str)
def test_captions_that_do_not_fit_are_a_clear_error_before_a_fit(captions: Any) -> None:
    with pytest.raises(CheckpointError, match=r"--ckpt mine: captions\(cond\)"):
        checked(changed(captions=lambda cond: captions), "mine")
    for right in (None, ["a", "b"]):
        checked(changed(captions=lambda cond, right=right: right), "mine")


@pytest.mark.parametrize("shape", [3, None, (2.5,), ("a",)])
def test_a_shape_that_is_none_is_a_clear_error(shape: Any) -> None:
    wrong = changed()
    wrong.shape = shape
    with pytest.raises(CheckpointError, match=r"--ckpt mine: .*(shape|draw)"):
        checked(wrong, "mine")


def test_a_whole_checkpoint_tells_what_it_has_and_else_nothing() -> None:
    whole = changed()
    found = checked(whole, "mine")
    assert found.made is whole and found.name == "mine" and full(found) is found
    assert found.images(torch.zeros(1, 2)) is found.captions(None) is found.condition(torch.ones(1)) is None
    assert found.features is found.rivals is found.fingerprint is None and found.made_for == {}
    told = checked(changed(shift=3.0, images=lambda x: x + 1, fingerprint="mine", made_for={"cfg": 2}), "mine")
    assert (told.shift, told.fingerprint, told.made_for) == (3.0, "mine", {"cfg": 2})
    assert torch.equal(told.images(torch.zeros(2, 8, 8)), torch.ones(2, 8, 8))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "schedule",
    [
        lambda steps: torch.linspace(1, 0, 4),
        lambda steps: torch.linspace(1, 0 if steps < 5 else 2, steps + 1),
        lambda steps: torch.linspace(1, 0, steps + 1) if steps < 5 else int("five"),
    ],
    ids=["length", "rising", "ValueError"],
)
def test_a_schedule_that_is_wrong_for_more_steps_is_one_clear_line(schedule: Callable[[int], Any]) -> None:
    with pytest.raises(CheckpointError, match=r"--ckpt mine: schedule\(5\)"):
        checked(changed(schedule=schedule), "mine").schedule(5)


def test_noise_is_drawn_once_so_every_schedule_begins_at_one_level() -> None:
    """Unlike ComfyUI's ddim_uniform, on which a teacher of 25 steps would be told 11.7 of noise of 1.6."""
    model = checked(changed(schedule=lambda steps: torch.linspace(1 + steps / 10, 0, steps + 1)), "mine")
    with pytest.raises(
        CheckpointError, match=r"--ckpt mine: choose another scheduler.* 25 steps .* 3.5, with others at"
    ):
        model.schedule(25)
