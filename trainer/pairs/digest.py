"""A short name for the content of any value that a checkpoint may draw."""

import hashlib
import inspect
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor


class _Plain:
    """The size of an object that has a `__dict__` and nothing else."""


def _is_plain(value: object) -> bool:
    """Whether `vars` gives all of an object: it has no slots and no state in C."""
    slots = any(inspect.ismemberdescriptor(part) for kind in type(value).__mro__ for part in vars(kind).values())
    small = type(value).__basicsize__ <= _Plain.__basicsize__
    plain = hasattr(value, "__dict__") and small and not slots and not callable(value)
    return plain or type(value) is SimpleNamespace


def digest(value: Any) -> str:
    """16 hexadecimal digits of a tensor, number, text, or list, dict or plain object of these; TypeError otherwise."""
    content = hashlib.sha256()
    try:
        _add(content, value)
    except RecursionError as error:
        raise TypeError("a value that contains itself has no digest") from error
    return content.hexdigest()[:16]


def _add(content: Any, value: Any) -> None:
    content.update(type(value).__name__.encode() + b":")
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous()
        content.update(f"{value.dtype} {tuple(value.shape)} ".encode())
        content.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    elif value is None or isinstance(value, str | bytes | int | float | complex):
        content.update(repr(value).encode())
    elif isinstance(value, list | tuple):
        for item in value:
            _add(content, item)
    elif isinstance(value, dict):
        for key in sorted(value, key=repr):
            _add(content, key)
            _add(content, value[key])
    elif hasattr(value, "tobytes") and hasattr(value, "dtype"):
        content.update(f"{value.dtype} {value.shape} ".encode() + value.tobytes())
    elif _is_plain(value):
        _add(content, vars(value))
    else:
        raise TypeError(f"{type(value).__name__} has no digest")
    content.update(b";")
