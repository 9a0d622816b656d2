"""Tensors of torch's files, rebuilt from what their pickles say and the bytes beside them."""

import math
from typing import Any

import torch
from torch import Tensor

from .pickles import Make, Named

MAXIMUM_NUMBERS = 1 << 20
"""Of one tensor: a few bytes with stride 0 must not ask for more."""
STORAGES: dict[str, torch.dtype] = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.BoolStorage": torch.bool,
}
STORAGE_NAMES: dict[str, Make | None] = dict.fromkeys(STORAGES)


def storage_id(identifier: Any) -> tuple[torch.dtype, str, int]:
    """(dtype, key, numbers) of a persistent id; where it lay (cpu, cuda:0) is of no matter."""
    word, kind, key, _, numbers, *view = identifier
    if word != "storage" or type(kind) is not Named or type(key) is not str or any(part is not None for part in view):
        raise ValueError("a persistent id is no storage of torch")
    return STORAGES[kind.name], key, numbers


def storage(content: bytes, dtype: torch.dtype, numbers: int) -> Tensor:
    """[numbers], little-endian."""
    if not content or len(content) != numbers * dtype.itemsize:
        raise ValueError(f"a tensor of {numbers} numbers has {len(content)} bytes: the file is damaged")
    if dtype is torch.bool and any(byte > 1 for byte in content):
        raise ValueError("a tensor of truth values has others: the file is damaged")
    return torch.frombuffer(bytearray(content), dtype=dtype)


def rebuild_tensor(stored: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    """A view of a storage, whose bounds torch checks; gradients and hooks are left out."""
    places = (offset, *size, *stride)
    if any(type(place) is not int or not 0 <= place <= MAXIMUM_NUMBERS for place in places) or len(size) > 4:
        raise ValueError("a tensor has an impossible shape: the file is damaged")
    if math.prod(size) > MAXIMUM_NUMBERS:
        raise ValueError("a tensor has more numbers than its file: the file is damaged")
    return stored.as_strided(size, stride, offset)


def rebuild_parameter(data: Tensor, *_: object) -> Tensor:
    """A parameter as a plain tensor."""
    return data


TENSOR_NAMES: dict[str, Make | None] = {
    "collections.OrderedDict": lambda: {},
    "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "torch._utils._rebuild_parameter": rebuild_parameter,
}
"""What rebuilds tensors and state dicts; an ordered dictionary is a dictionary."""


def matrix(value: object, name: str, size: tuple[int, ...]) -> Tensor:
    """The tensor as float64; ValueError where it is none, or of another shape."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is no tensor")
    if tuple(value.shape) != size:
        raise ValueError(f"{name} has the shape {list(value.shape)}, not {list(size)}")
    return value.to(torch.float64)


def newest_first(weights: Tensor, order: int) -> list[list[float]]:
    """The rows of a square of weights, oldest slope first, in the order of the reference."""
    if bool(weights.triu(1).any()) or bool(weights.tril(-order).any()):
        raise ValueError(f"there are weights for other slopes than the newest {order}")
    return [row[max(0, n + 1 - order) : n + 1].flip(0).tolist() for n, row in enumerate(weights)]
