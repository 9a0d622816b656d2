"""What the tests of the trainer share: a small checkpoint, and the command lines in this process or in another."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from dyweight import schedules
from trainer import distill, evaluate
from trainer.report import curves

ROOT = Path(__file__).parents[2]
VARIANCE = 0.1
ALEXNET, INCEPTION = "alexnet-owt-7be5be79.pth", "pt_inception-2015-12-05-6726825d.pth"
TINY_CLIP = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}


class Peaks:
    """Elements at -1 or 1, give or take VARIANCE, whose posterior mean is exact. Has none of the optional attributes.

    before_call(calls so far, x, sigma) is there for tests that count, stop or change the model.
    """

    def __init__(self, shape: tuple[int, ...] = (4,), dtype: torch.dtype = torch.float32) -> None:
        self.shape, self.dtype = shape, dtype
        self.calls = 0
        self.before_call: Callable[[int, Tensor, Tensor], object] = lambda calls, x, sigma: None

    def schedule(self, steps: int) -> Tensor:
        return schedules.polynomial(steps, 0.02, 10)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Any]:
        return (10 * torch.randn(batch, *self.shape, generator=generator)).to(self.dtype), None

    def denoise(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        self.before_call(self.calls, x, sigma)
        self.calls += 1
        square = sigma.to(x).reshape(-1, *[1] * (x.ndim - 1)) ** 2
        return (VARIANCE * x + square * torch.tanh(x / (VARIANCE + square))) / (VARIANCE + square)


PEAKS_FILE = """
import torch
from dyweight import schedules

class Peaks:
    shape = (4,)
    calls = 0

    def schedule(self, steps):
        return schedules.polynomial(steps, 0.02, 10)

    def draw(self, generator, batch):
        return 10 * torch.randn(batch, *self.shape, generator=generator), None

    def denoise(self, x, sigma, cond):
        self.before_call()
        self.calls += 1
        square = sigma.to(x)[:, None] ** 2
        return (0.1 * x + square * torch.tanh(x / (0.1 + square))) / (0.1 + square)

    def before_call(self):
        pass

make = Peaks
"""
"""The same as a user's file."""


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    status: int
    out: Path
    printed: str
    errors: str

    @property
    def message(self) -> str:
        """The one line that says what is wrong, after the checks that every refusal must pass."""
        assert self.status == 2, f"exit status {self.status}: {self.errors or self.printed}"
        assert "Traceback" not in self.errors
        line = self.errors.strip().splitlines()[-1]
        assert "error: " in line
        assert self.errors.count("error: ") == 1
        return line

    def report(self, folder: Path | None = None) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(((folder or self.out) / "report.json").read_text())
        return content


class Commands:
    """Runs the command lines; files go to a folder of the test."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._capsys, self._monkeypatch = folder, capsys, monkeypatch

    def distill(self, ckpt: object, *arguments: object, out: object = "solver.safetensors") -> Outcome:
        """ckpt: what --ckpt names, or a checkpoint. out: relative to the test's folder."""
        return self._run(distill.main, ckpt, arguments, self.folder / str(out))

    def evaluate(self, ckpt: object, solver: object, *arguments: object, out: object = "evaluation") -> Outcome:
        return self._run(evaluate.main, ckpt, ("--solver", solver, *arguments), self.folder / str(out))

    def in_another_process(self, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", f"trainer.{program}", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    def _run(self, main: Callable[[list[str]], int], ckpt: object, arguments: tuple[object, ...], out: Path) -> Outcome:
        name = ckpt if isinstance(ckpt, str) else "a_users_module:make"
        if not isinstance(ckpt, str):
            module = ModuleType("a_users_module")
            vars(module)["make"] = lambda: ckpt
            self._monkeypatch.setitem(sys.modules, module.__name__, module)
        self._capsys.readouterr()
        try:
            status = main(["--ckpt", name, *map(str, arguments), "--out", str(out)])
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            status = stop.code
        return Outcome(status, out, *self._capsys.readouterr())


@pytest.fixture(scope="session", autouse=True)
def fonts_are_listed() -> None:
    """Else the first process that draws says on stderr that it lists them, where that takes longer than 5 s."""
    from matplotlib import font_manager  # noqa: F401


@pytest.fixture(autouse=True)
def no_cache_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that stands in for ~/.cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    return tmp_path / "user-cache"


@pytest.fixture
def commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(tmp_path, capsys, monkeypatch)


@pytest.fixture
def peaks() -> type[Peaks]:
    return Peaks


@pytest.fixture
def peaks_file(tmp_path: Path) -> Callable[..., str]:
    """Writes a user's file with the checkpoint in it, some text of it replaced; returns what --ckpt takes."""

    def write(*replacements: tuple[str, str], name: str = "model.py") -> str:
        text = PEAKS_FILE
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
        return f"{tmp_path / name}:make"

    return write


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are empty files: rendering them takes longer than a small fit."""
    monkeypatch.setattr(curves, "write", lambda figure, path: path.touch())


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """A context in which no file can grow beyond so many bytes."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def full_after(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return full_after


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that would have been written."""
    figures: list[Any] = []
    monkeypatch.setattr("trainer.report.curves.write", lambda figure, path: figures.append(figure))
    return figures


@pytest.fixture(scope="module")
def picture_libraries() -> Iterator[None]:
    """The libraries, or those that `make test` put aside: ComfyUI would import a torchvision beside torch."""
    beside = str(Path(sys.prefix) / "pictures")
    sys.path.append(beside)
    patch = pytest.MonkeyPatch()
    # A CPU build of torch can't load the operators of torchvision's CUDA build; these networks use none of them.
    patch.setattr("torch.library.register_fake", lambda *_, **__: lambda function: function)
    try:
        import lpips  # noqa: F401
        import pytorch_fid  # noqa: F401
        import torchvision  # noqa: F401
    except ImportError as error:
        pytest.skip(
            f"LOSSES AND METRICS ON PICTURES ARE NOT TESTED: {error}; run `make test`, or pip install lpips pytorch-fid"
        )
    patch.undo()
    yield
    sys.path.remove(beside)


@pytest.fixture(scope="module")
def picture_hub(picture_libraries: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of torch.hub with random weights for lpips and pytorch-fid."""
    import torchvision
    from pytorch_fid import inception

    folder = tmp_path_factory.mktemp("hub") / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    alexnet = torchvision.models.alexnet().state_dict()
    unused = {name: torch.zeros(1).expand(value.shape) for name, value in alexnet.items() if "classifier" in name}
    torch.save(alexnet | unused, folder / ALEXNET)
    made: list[Any] = []
    patch = pytest.MonkeyPatch()
    patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
    patch.setattr(torch.nn.Module, "load_state_dict", lambda self, state, **_: made.append(self))
    inception.fid_inception_v3()
    patch.undo()
    torch.save(made[0].state_dict(), folder / INCEPTION)
    return folder.parent


@pytest.fixture
def picture_weights(picture_hub: Path) -> Iterator[None]:
    """Random weights lie where lpips and pytorch-fid look for theirs."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(picture_hub)
    yield
    torch.hub.set_dir(before)


@pytest.fixture
def tiny_clip(picture_libraries: None, tmp_path: Path) -> tuple[str, Path]:
    """(name of a model that open_clip knows, file of random weights for it)."""
    open_clip = pytest.importorskip("open_clip", exc_type=ImportError)
    (tmp_path / "tiny-clip-of-tests.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(tmp_path / "tiny-clip-of-tests.json")
    torch.manual_seed(6)  # whose scores are of both signs, and mostly above 0
    torch.save(open_clip.create_model("tiny-clip-of-tests").state_dict(), tmp_path / "tiny-clip.pt")
    return "tiny-clip-of-tests", tmp_path / "tiny-clip.pt"
