"""The coefficient file: safetensors with string metadata. docs/coefficient-file.md specifies it."""

import json
import os
import secrets
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from .solvers import FAMILIES, Solver

FORMAT = "dyweight-solver"
FORMAT_VERSION = "1"
MAXIMUM_HEADER_BYTES = 1 << 20
MAXIMUM_FILE_BYTES = 256 << 20
_DTYPES = {"F32": 4, "F64": 8}


class SolverFileError(ValueError):
    """A coefficient file that can't be used; the message names the file, the field and what to do."""


def save_solver(solver: Solver, path: str | os.PathLike[str], provenance: dict[str, Any]) -> None:
    """Write a solver; the same solver and provenance always give the same bytes.

    provenance: JSON values: for what and how the solver was made. The file appears whole or not at all.
    Raises SolverFileError where the solver could not be read back.
    """
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "family": solver.family,
        "settings": _dumps(solver.settings(), path),
        "provenance": _dumps(provenance, path),
    }
    tensors = {name: tensor.to("cpu").contiguous() for name, tensor in solver.tensors().items()}
    content = canonical(save(tensors, metadata))
    _parse(content, str(path))
    write_whole(Path(path), content)


def load_solver(path: str | os.PathLike[str]) -> Solver:
    """Read a solver, without gradients, with the file's provenance and path as attributes `provenance` and `source`.

    Nothing of the file is executed, and no more memory is taken than the file has bytes.
    Raises SolverFileError for whatever is wrong with the file or its place.
    """
    name = str(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAXIMUM_FILE_BYTES:
                raise _error(name, f"it has {size} bytes, more than the {MAXIMUM_FILE_BYTES} a solver may have")
            content = file.read(MAXIMUM_FILE_BYTES)
    except (OSError, ValueError) as error:
        raise _error(name, f"it can't be read ({getattr(error, 'strerror', None) or error}); check the path") from error
    return _parse(content, name)


def canonical(content: bytes) -> bytes:
    """safetensors bytes with the keys of the header in order; the library leaves the metadata in any order."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def write_whole(path: Path, content: bytes) -> None:
    """Write to a temporary name beside the path, then rename: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _parse(content: bytes, name: str) -> Solver:
    header = _header(content, name)
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise _error(name, f"it is no coefficient file (its metadata has no format={FORMAT})")
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise _error(name, f"format_version is {version!r}, this version reads {FORMAT_VERSION}; update the pack")
    family = metadata.get("family")
    if not isinstance(family, str) or family not in FAMILIES:
        raise _error(name, f"family is {family!r}, known are {', '.join(FAMILIES)}; update the pack")
    settings, provenance = (_json_object(metadata, field, name) for field in ("settings", "provenance"))
    try:
        _check_tensors(header, FAMILIES[family].shapes(settings), name)
        tensors = load(content)
        for tensor_name, tensor in tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise _error(name, f"tensor {tensor_name!r} has a value that is not finite")
        solver = FAMILIES[family].from_file(settings, tensors)
    except SolverFileError:
        raise
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError, RuntimeError) as error:
        raise _error(name, f"settings and tensors make no {family} solver ({type(error).__name__}: {error})") from error
    solver.provenance, solver.source = provenance, name
    return solver


def _header(content: bytes, name: str) -> dict[str, Any]:
    length = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
    if not 2 <= length <= len(content) - 8:
        raise _error(name, "it is damaged or no safetensors file (the header does not fit); get it again")
    if length > MAXIMUM_HEADER_BYTES:
        raise _error(name, f"its header has {length} bytes, more than the {MAXIMUM_HEADER_BYTES} allowed")
    header = _loads(content[8 : 8 + length], "header", name)
    if not isinstance(header, dict):
        raise _error(name, "its header is no JSON object; get it again")
    return header


def _check_tensors(header: dict[str, Any], shapes: dict[str, tuple[int, ...]], name: str) -> None:
    if set(header) != set(shapes):
        raise _error(name, f"it has the tensors {sorted(header)}, needed are {sorted(shapes)}")
    for tensor_name, shape in shapes.items():
        entry = header[tensor_name] if isinstance(header[tensor_name], dict) else {}
        if entry.get("dtype") not in _DTYPES:
            raise _error(name, f"tensor {tensor_name!r} has dtype {entry.get('dtype')!r}, allowed are F32 and F64")
        if entry.get("shape") != list(shape):
            raise _error(name, f"tensor {tensor_name!r} has shape {entry.get('shape')}, needed is {list(shape)}")


def _json_object(metadata: dict[str, Any], field: str, name: str) -> dict[str, Any]:
    value = _loads(metadata[field], field, name) if isinstance(metadata.get(field), str) else None
    if not isinstance(value, dict):
        raise _error(name, f"metadata field {field!r} is missing or no JSON object")
    return value


def _loads(text: str | bytes, what: str, name: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _error(name, f"its {what} is no valid JSON ({type(error).__name__}); get it again") from error


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON number")


def _dumps(value: dict[str, Any], path: object) -> str:
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _error(str(path), f"settings and provenance must be JSON values ({error})") from error


def _error(name: str, what: str) -> SolverFileError:
    return SolverFileError(f"{name}: {what}")
