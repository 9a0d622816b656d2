"""One run of the fit: from what is connected to the node to a file in models/dyweight. It brings the trainer."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from comfy_execution.graph_utils import ExecutionBlocker

from ..dyweight import SolverFile, SolverFileError
from . import fit_lines, messages, notes
from .comfy_sampling import guider_of
from .fit_display import Display, Stopped
from .fit_library import already_fitted, model_name, picture_beside, refuse_unwritable, write_beside
from .fit_pictures import comparison
from .new_file import check_name, write_new
from .notes import Sentence
from .trainer_room import rooms_by_name

with rooms_by_name("dyweight", "comfyui"):
    from ..trainer.checkpoints.comfy.canvas import CanvasCheckpoint, LowExpert
    from ..trainer.distillation.progress import FitProgress
    from ..trainer.distillation.unbroken import FITTED, TEACHER, Errors, Result, UnbrokenFit
    from ..trainer.options.distill import DistillOptions
    from ..trainer.pairs.targets import default_cache
    from ..trainer.run.errors import TrainerError
    from ..trainer.run.timing import duration_in_words

RIVALS = ("euler/simple", "res_multistep/simple", "dpmpp_2m/simple")
MOST_STEPS = 64
SHOWN = 4
"""Prompts in the comparison."""


@dataclass(frozen=True)
class FitInputs:
    """What is connected to the node."""

    latent_image: dict[str, Any]
    steps: str
    scheduler: str
    effort: Any
    seed: int
    name: str
    positive: list[Any]
    model: Any = None
    negative: Any = None
    cfg: float = 1.0
    guider: Any = None
    vae: Any = None
    model_low: Any = None
    boundary: str = "0.875"

    @classmethod
    def of(cls, lists: Mapping[str, Any]) -> "FitInputs":
        """Of the lists that ComfyUI gives: all prompts, and the first of everything else."""
        known = {field.name for field in dataclasses.fields(cls)}
        given = {name: values for name, values in lists.items() if name in known and values}
        first = {name: values[0] for name, values in given.items() if name != "positive"}
        return cls(**first, positive=list(given.get("positive", [])))


@dataclass(frozen=True)
class Done:
    """What the node gives."""

    file: SolverFile
    image: Any
    """[1, height, width, 3], or what blocks the output where there is none"""
    info: str


def run(inputs: FitInputs, node: str, graph: dict[str, Any]) -> Done:
    """Fit, or find the file of the same fit. Raises ValueError, whose sentence says what to change."""
    with torch.inference_mode(False):  # the table of a solver is differentiated, the network is not
        try:
            return _run(inputs, node, graph)
        except TrainerError as error:
            if isinstance(error.__cause__, OSError):  # of what is kept until the fit is done
                raise notes.refusal(messages.CANT_SAVE, reason=error.__cause__) from None
            reason = error.message.removeprefix("--ckpt ")  # which is the model
            raise notes.refusal(messages.CANT_FIT, reason=Sentence(reason, **error.values)) from None
        except OSError as error:
            raise notes.refusal(messages.CANT_SAVE, reason=error) from None


def _run(inputs: FitInputs, node: str, graph: dict[str, Any]) -> Done:
    refuse_unwritable()
    if inputs.guider is not None and inputs.model_low is not None:
        raise notes.refusal(messages.FIT_TWO_MODELS)
    guider = inputs.guider or guider_of(inputs.model, inputs.negative, inputs.cfg)
    model = model_name(graph, node, "guider", "model") or type(guider.model_patcher.model).__name__
    given, low = (guider, inputs.positive, inputs.latent_image), _low_expert(inputs, node, graph)
    checkpoint = CanvasCheckpoint(model, *given, inputs.scheduler, inputs.vae, low)
    options = DistillOptions(
        ckpt=model, steps=_steps(inputs.steps), out=Path("x.safetensors"), effort=inputs.effort, seed=inputs.seed
    )
    if checkpoint.prompts == 1:
        notes.warn(messages.FEW_PROMPTS)
    display = Display(node, checkpoint, duration_in_words)
    fit = UnbrokenFit(checkpoint, options, default_cache().parent, RIVALS, display.called)
    if found := already_fitted(checkpoint.sketch(), fit.settings()):
        info = Sentence(fit_lines.FOUND, file=found.name, errors=_how_good(found))
        display.text(info)
        image = picture_beside(found)
        return Done(found, ExecutionBlocker(None) if image is None else image, str(info))
    name = inputs.name.replace("%model%", Path(model).stem).replace("%steps%", "-".join(map(str, options.members)))
    name = name.replace("%width%", str(checkpoint.width)).strip().removesuffix(".safetensors")
    with _named():
        check_name(name)
    display.begin(fit.expected_calls(SHOWN), fit.seconds(SHOWN))

    def told(progress: FitProgress) -> None:
        if display.told(progress, fit.calls_after(SHOWN)):
            display.picture(*fit.beside_teacher(progress.solver))

    try:
        result = fit.run(told)
    except Stopped:
        _keep_what_there_is(fit, display, name)
        raise
    return _finished(fit, result, name, display, checkpoint)


def _low_expert(inputs: FitInputs, node: str, graph: dict[str, Any]) -> LowExpert | None:
    """The second model, with the guidance of the first."""
    if inputs.model_low is None:
        return None
    name = model_name(graph, node, "model_low") or type(inputs.model_low.model).__name__
    return LowExpert(name, guider_of(inputs.model_low, inputs.negative, inputs.cfg), str(inputs.boundary))


def _finished(fit: UnbrokenFit, result: Result, name: str, display: Display, checkpoint: CanvasCheckpoint) -> Done:
    shown = fit.options.members[len(fit.options.members) // 2]
    errors = result.errors[shown]
    names = [TEACHER, FITTED, *[one for one in errors if one in RIVALS][:1]]
    file: Any = _written(fit, result.file, name) if result.better else result.file  # before anything else can fail
    try:
        image = comparison(checkpoint, fit.latents(shown, names, SHOWN), names)
    finally:
        if result.better:  # else it is kept: the next run need not fit again to know that
            fit.forget()
    if result.better:
        write_beside(file, image)
        info = Sentence(fit_lines.SAVED, file=file.name, errors=table(result.errors))
    else:
        best = next(iter(errors))
        notes.warn(messages.NOTHING_BETTER, best=best, steps=shown)
        info = Sentence(fit_lines.NOTHING_SAVED, best=best, errors=table(result.errors))
        if (before := fit.left) is not None:
            before.unlink(missing_ok=True)
    display.end(info, image)
    return Done(file, image, str(info))


def _keep_what_there_is(fit: UnbrokenFit, display: Display, name: str) -> None:
    """After it was cancelled; cancelling again leaves it."""
    display.text(Sentence(fit_lines.CANCELLED))
    result = fit.best_so_far()
    if result is None:
        display.text(Sentence(fit_lines.NOTHING_YET))
        return
    file = _written(fit, result.file, f"{name}-unfinished")
    display.text(Sentence(fit_lines.UNFINISHED, file=file.name, errors=table(result.errors)))


def _written(fit: UnbrokenFit, file: Any, name: str) -> SolverFile:
    """A file of the trainer's in the folder, in the place of what this fit left there when it was cancelled."""
    with _named():
        written = write_new(file, name)
    if (before := fit.left) is not None and before != written.path:
        before.unlink(missing_ok=True)
    assert written.path is not None
    fit.left = written.path
    return written


@contextmanager
def _named() -> Iterator[None]:
    """What is wrong with the name, as a sentence on the page."""
    try:
        yield
    except SolverFileError as error:
        raise notes.refusal(messages.CANT_FIT, reason=error) from None


def table(errors: Mapping[int, Errors]) -> str:
    """A line for each sampler, at each number of steps."""
    lines = [(steps, name, error) for steps, own in errors.items() for name, error in own.items()]
    return "\n".join(f"{error:.5f}  {steps} steps  {name}" for steps, name, error in lines)


def _steps(text: str) -> tuple[int, ...]:
    parts = text.replace(" ", "").split(",")
    steps = sorted({int(part) for part in parts if part.isdecimal()})
    if not all(part.isdecimal() for part in parts) or not 0 < steps[0] <= steps[-1] <= MOST_STEPS:
        raise notes.refusal(messages.FIT_STEPS, steps=text, most=MOST_STEPS)
    return tuple(steps)


def _how_good(file: SolverFile) -> str:
    told = {steps: file.member(steps).provenance.get("endpoint_error_after") for steps in file.solvers.steps}
    return table({steps: {FITTED: error} for steps, error in told.items() if isinstance(error, float)})
