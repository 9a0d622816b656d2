"""The file of a fit: found where there is one for the same model and settings, and where a new one goes."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..dyweight import SolverFile
from ..dyweight.sketch import SAME, distance
from . import messages, notes, solver_library
from .fit_pictures import as_pillow

_MODELS = ("checkpoints", "diffusion_models", "unet_gguf")
_OTHERWISE = ("steps", "model_low")
"""Settings that are not compared as such: a name tells nothing of a model."""


def already_fitted(sketch: Sequence[float] | None, settings: dict[str, Any]) -> SolverFile | None:
    """The file of a finished fit of this model at these settings; None where there is none."""
    compared = {name: value for name, value in settings.items() if name not in _OTHERWISE}

    def same(file: SolverFile) -> bool:
        made_for = file.provenance
        alike = all(_plain(made_for.get(name)) == _plain(value) for name, value in compared.items())
        alike = alike and list(file.solvers.steps) == settings["steps"] and not made_for.get("unfinished")
        found: object = made_for.get("sketch")
        behaves = isinstance(found, list) and distance(found, sketch or []) <= SAME
        return alike and (behaves or settings["fingerprint"] is not None)

    return next((file for file in solver_library.user_files() if same(file)), None)


def model_name(graph: dict[str, Any], node: str, *inputs_of_node: str) -> str | None:
    """The file of the model in a workflow from which a node gets one of these inputs, in the API's format; None where
    none is named."""
    known = {name for folder in _MODELS if folder in folder_paths.folder_names_and_paths for name in _listed(folder)}
    inputs = graph.get(node, {}).get("inputs", {})
    waiting = [inputs[name] for name in inputs_of_node if isinstance(inputs.get(name), list)]
    seen: set[str] = set()
    while waiting:
        source = str(waiting.pop(0)[0])
        values = {} if source in seen else graph.get(source, {}).get("inputs", {})
        seen.add(source)
        named = [value for value in values.values() if isinstance(value, str) and value in known]
        if named:
            return named[0].replace("\\", "/").rpartition("/")[2]
        waiting += [value for value in values.values() if isinstance(value, list) and len(value) == 2]
    return None


def refuse_unwritable() -> None:
    """ValueError where no folder for solver files can be written to: better before a fit than after it."""
    reasons = []
    for folder in folder_paths.get_folder_paths(solver_library.FOLDER):
        probe = Path(folder) / f".{secrets.token_hex(8)}"
        try:
            probe.parent.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
            return
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror}")
    raise notes.refusal(messages.CANT_SAVE, reason="; ".join(reasons))


def write_beside(file: SolverFile, image: Tensor) -> None:
    """Keep the picture [1, height, width, 3] of a file beside it, where ComfyUI looks for one."""
    as_pillow(image).save(_picture(file))


def picture_beside(file: SolverFile) -> Tensor | None:
    """What `write_beside` kept."""
    try:
        with Image.open(_picture(file)) as image:
            return torch.from_numpy(np.asarray(image.convert("RGB"), np.float32) / 255)[None]
    except OSError:
        return None


def _picture(file: SolverFile) -> Path:
    assert file.path is not None
    return file.path.with_suffix(".png")


def _listed(folder: str) -> list[str]:
    return list(folder_paths.get_filename_list(folder))


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
