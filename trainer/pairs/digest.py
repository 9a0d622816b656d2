"""A short name for the content of any value that a checkpoint may draw."""

import hashlib
from typing import Any

import torch
from torch import Tensor


def digest(value: Any) -> str:
    """16 hexadecimal digits of a tensor, number, text, or list, dict or plain object of these; else TypeError."""
    content = hashlib.sha256()
    try:
        _add(content, value)
    except RecursionError as error:
        raise TypeError("a value that holds itself has no digest") from error
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
    elif hasattr(value, "__dict__") and not callable(value):
        _add(content, vars(value))
    else:
        raise TypeError(f"{type(value).__name__} has no digest")
    content.update(b";")
