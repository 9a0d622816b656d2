"""The files of the authors: torch.save of weights and time scales for FLUX, pickles after training for the others."""

import functools
import io
import zipfile
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from .pickles import STORAGES, TENSORS, PickleReader, legacy_storage, refuse, storage

_SAMPLERS = [f"solvers.{name}_sampler" for name in ("dyweight", "heun", "dpm", "dpmpp", "euler", "ipndm", "unipc")]


def flux_entry(content: bytes, name: str) -> dict[str, Any]:
    """The entry in the layout of the reference. Model, guidance and teacher are their settings; the file has none."""
    saved = _read_archive(content)
    missing = {"dyweight_weights_raw", "dyweight_t_scales", "window_size", "dyweight_meta"} - saved.keys()
    if missing:
        raise ValueError(f"no FLUX file of the authors: {', '.join(sorted(missing))} missing")
    steps, window = saved["dyweight_meta"]["K"], saved["window_size"]
    if type(steps) is not int or type(window) is not int or steps < 1 or window < 0:
        raise ValueError("its number of steps or its window is no whole number")
    order = min(window or steps, steps)  # 0 is all of the history
    return {
        "source": name,
        "model": "flux1-dev",
        "steps": steps,
        "order": order,
        "analytic_first_step": False,
        "guidance": {"type": "embedded", "scale": 3.5},
        "slope_divides_by": "query_sigma",
        "base_schedule": {"kind": "flux_shift"},
        "teacher_steps": 28,
        "loss": "latent mse",
        "weights_newest_first": _newest_first(_matrix(saved, "dyweight_weights_raw", steps, steps), order),
        "time_scale": _matrix(saved, "dyweight_t_scales", steps).tolist(),
    }


def training_entry(content: bytes, name: str) -> dict[str, Any]:
    """The entry in the layout of the reference, from the learned module and the loss; the source code beside the
    attributes of both is left where it is.
    """
    saved = PickleReader(io.BytesIO(content), _training_names(len(content))).load()
    predictor = _attributes(saved, "predictor", "DyWeight_predictor")
    loss = _attributes(saved, "loss_fn", "DyWeight_loss")
    steps, order, analytic = predictor["num_steps"] - 1, predictor["effective_window_size"] + 1, predictor["afs"]
    weights, mask = (_matrix(predictor, key, steps, steps) for key in ("hybrid_weights", "mask"))
    calls, guidance = steps - int(analytic), predictor["guidance_type"]
    schedule = {"kind": "schedule_type", "rho": "schedule_rho", "sigma_min": "sigma_min", "sigma_max": "sigma_max"}
    sigmas = None if loss["t_steps"] is None else _matrix(loss, "t_steps", steps + 1).tolist()
    return {
        "source": name,
        "model": loss["dataset_name"],
        "steps": steps,
        "order": order,
        "analytic_first_step": analytic,
        "guidance": guidance and {"type": guidance, "scale": predictor["guidance_rate"]},
        "slope_divides_by": "state_sigma",
        "base_schedule": {**{field: loss[key] for field, key in schedule.items()}, "sigmas": sigmas},
        "teacher_steps": loss["teacher_steps"],
        "loss": loss["loss_type"],
        "weights_newest_first": _newest_first(weights * mask, order),
        "time_scale": (
            _matrix(predictor, "t_scale", calls).tolist() if predictor["enable_t_scale_learning"] else [1.0] * calls
        ),
    }


def _read_archive(content: bytes) -> dict[str, Any]:
    """What torch.save wrote: a zip of data.pkl and the bytes of each storage."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        # Uncompressed and no more than the file has: a small file can't ask for much memory.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("a compressed zip is no file of torch.save")
        if sum(entry.file_size for entry in entries) > len(content):
            raise ValueError("damaged: the zip says that it holds more bytes than it has")
        pickles = [entry.filename for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("a zip without one data.pkl is no file of torch.save")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("its numbers are not little-endian")

        @functools.cache  # a file can refer to one storage any number of times
        def stored(dtype: torch.dtype, key: str, numbers: int) -> Tensor:
            return storage(archive.read(f"{folder}data/{key}"), dtype, numbers)

        saved = PickleReader(io.BytesIO(archive.read(pickles[0])), {**TENSORS, **STORAGES}, stored).load()
    return saved if isinstance(saved, dict) else {}


def _training_names(budget: int) -> dict[str, Any]:
    """budget: bytes of storages, for a pickle can refer to the same ones again."""

    def load_from_bytes(content: bytes) -> Tensor:
        nonlocal budget
        budget -= len(content)
        if budget < 0:
            raise ValueError("damaged: its tensors have more bytes than the file")
        return legacy_storage(content)

    return {
        **TENSORS,
        "torch.storage._load_from_bytes": load_from_bytes,
        "torch_utils.persistence._reconstruct_persistent_obj": lambda meta: meta,
        **{name: functools.partial(refuse, f"it calls {name}") for name in _SAMPLERS},
    }


def _attributes(saved: Any, key: str, class_name: str) -> dict[str, Any]:
    """Numbers, texts and tensors by name; what else there is may be nested without end, and nobody looks at it."""
    found = saved.get(key) if isinstance(saved, dict) else None
    if not isinstance(found, dict) or found.get("class_name") != class_name:
        raise ValueError(f"no training pickle of the authors: no {class_name} under {key!r}")
    state = found["state"]
    held = {**state, **state.get("_parameters", {}), **state.get("_buffers", {})}
    return {name: value for name, value in held.items() if isinstance(value, str | int | float | NoneType | Tensor)}


def _matrix(held: dict[str, Any], name: str, *size: int) -> Tensor:
    """The tensor as float64; ValueError where it is none, or of another shape."""
    value = held[name]
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is no tensor")
    if tuple(value.shape) != size:
        raise ValueError(f"{name} has the shape {list(value.shape)}, not {list(size)}")
    return value.to(torch.float64)


def _newest_first(weights: Tensor, order: int) -> list[list[float]]:
    """The rows of a square of weights, oldest slope first, in the order of the reference."""
    if bool(weights.triu(1).any()) or bool(weights.tril(-order).any()):
        raise ValueError(f"there are weights for other slopes than the newest {order}")
    return [row[max(0, n + 1 - order) : n + 1].flip(0).tolist() for n, row in enumerate(weights)]
