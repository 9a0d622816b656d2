"""The authors' training pickles: the learned module, and the loss with its settings, each with its source code inside.

The source code is left where it is: only the attributes are taken.
"""

import io
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .pickles import Make, PickleReader
from .tensors import STORAGE_NAMES, TENSOR_NAMES, matrix, newest_first, storage, storage_id

_SAMPLERS = ("dyweight", "heun", "dpm", "dpmpp", "euler", "ipndm", "unipc")
_LEGACY_MAGIC, _LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001


@dataclass(frozen=True, slots=True)
class _Persisted:
    """An object of torch_utils.persistence: the name of its class, and its attributes."""

    class_name: str
    state: dict[str, Any]


def entry(content: bytes, name: str) -> dict[str, Any]:
    """The entry in the layout of the reference."""
    saved = PickleReader(_names(len(content))).load(io.BytesIO(content))
    predictor = _state(saved, "predictor", "DyWeight_predictor")
    loss = _state(saved, "loss_fn", "DyWeight_loss")
    steps, order, analytic = predictor["num_steps"] - 1, predictor["effective_window_size"] + 1, predictor["afs"]
    weights = _tensor(predictor, "hybrid_weights", (steps, steps)) * _tensor(predictor, "mask", (steps, steps))
    calls = steps - int(analytic)
    scaled = predictor["enable_t_scale_learning"]
    scales = _tensor(predictor, "t_scale", (calls,)) if scaled else torch.ones(calls)
    guidance, sigmas = predictor["guidance_type"], loss["t_steps"]
    return {
        "source": name,
        "model": loss["dataset_name"],
        "steps": steps,
        "order": order,
        "analytic_first_step": analytic,
        "guidance": guidance and {"type": guidance, "scale": predictor["guidance_rate"]},
        "slope_divides_by": "state_sigma",
        "base_schedule": {
            "kind": loss["schedule_type"],
            "rho": loss["schedule_rho"],
            "sigma_min": loss["sigma_min"],
            "sigma_max": loss["sigma_max"],
            "sigmas": None if sigmas is None else matrix(sigmas, "t_steps", (steps + 1,)).tolist(),
        },
        "teacher_steps": loss["teacher_steps"],
        "loss": loss["loss_type"],
        "weights_newest_first": newest_first(weights, order),
        "time_scale": scales.tolist(),
    }


def _state(saved: Any, key: str, class_name: str) -> dict[str, Any]:
    found = saved.get(key) if isinstance(saved, dict) else None
    if not isinstance(found, _Persisted) or found.class_name != class_name or type(found.state) is not dict:
        raise ValueError(f"no training pickle of the authors: no {class_name} under {key!r}")
    return found.state


def _tensor(state: dict[str, Any], name: str, size: tuple[int, ...]) -> Tensor:
    held = state["_buffers"] if name in state["_buffers"] else state["_parameters"]
    return matrix(held[name], name, size)


def _names(budget: int) -> dict[str, Make | None]:
    """All that these pickles may name. budget: bytes of storages, for a pickle can refer to the same ones again."""
    left = [budget]

    def load_from_bytes(content: bytes) -> Tensor:
        left[0] -= len(content)
        if left[0] < 0:
            raise ValueError("its tensors have more bytes than the file: the file is damaged")
        return _legacy_storage(content)

    return {
        **TENSOR_NAMES,
        "torch.storage._load_from_bytes": load_from_bytes,
        "torch_utils.persistence._reconstruct_persistent_obj": _reconstruct,
        **{f"solvers.{sampler}_sampler": None for sampler in _SAMPLERS},
    }


def _reconstruct(meta: dict[str, Any]) -> _Persisted:
    return _Persisted(meta["class_name"], meta["state"])


def _legacy_storage(content: bytes) -> Tensor:
    """torch's layout before zip: pickles of magic, version, machine, storage and keys, then count and bytes."""
    stream = io.BytesIO(content)
    reader = PickleReader(STORAGE_NAMES, storage_id)
    magic, version, machine = (reader.load(stream) for _ in range(3))
    if magic != _LEGACY_MAGIC or version != _LEGACY_VERSION or not machine["little_endian"]:
        raise ValueError("a storage inside it is not of torch")
    dtype, key, numbers = reader.load(stream)
    if reader.load(stream) != [key] or int.from_bytes(stream.read(8), "little") != numbers:
        raise ValueError("a storage inside it is damaged")
    return storage(stream.read(), dtype, numbers)
