"""The coefficient file: safetensors with string metadata. docs/coefficient-file.md specifies it."""

import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .files import write_whole
from .provenance import Provenance
from .sketch import SAME, distance
from .solver_set import SolverSet, in_words
from .solvers import FAMILIES, Solver

FORMAT = "dyweight-solver"
FORMAT_VERSION = "1"
MAXIMUM_HEADER_BYTES = 1 << 20
MAXIMUM_FILE_BYTES = 256 << 20
_DTYPES = {"F32": 4, "F64": 8}
_READ: dict[str, type[Solver] | type[SolverSet]] = {**FAMILIES, SolverSet.family: SolverSet}
"""What a file can hold, by its family."""


class SolverFileError(ValueError):
    """A coefficient file that can't be used; the message names the file, the field and what to do."""


@dataclass(frozen=True)
class SolverFile:
    """A solver, or a set of them, with what its file says about it."""

    content: Solver | SolverSet
    provenance: Provenance
    path: Path | None = None
    """Path of the file; None for a solver without one."""

    @property
    def solver(self) -> Solver:
        """The only solver. Raises SolverFileError where the file has several, of which `member` gives one."""
        if len(self.solvers.steps) > 1:
            raise _error(str(self.path), f"it has solvers for {in_words(self.solvers.steps)} steps; take one of them")
        return self.solvers.member()

    @cached_property
    def solvers(self) -> SolverSet:
        """The set; a solver alone is a set of one."""
        return self.content if isinstance(self.content, SolverSet) else SolverSet([self.content])

    def member(self, steps: int = 0) -> "SolverFile":
        """The solver for this number of steps, with what the file says of it; 0: the only one, or the middle one.

        Raises ValueError for a number that it does not have.
        """
        solver = self.solvers.member(steps)
        common: dict[str, Any] = {**self.provenance}
        members = common.pop("members", None)
        own = members.get(str(solver.steps)) if isinstance(members, dict) else None
        merged = {**common, **(own if isinstance(own, dict) else {})}
        return SolverFile(solver, cast(Provenance, merged), self.path)

    @classmethod
    def joined(cls, members: Sequence["SolverFile"]) -> "SolverFile":
        """One file of several, the inverse of `member`: what all say of their model is said once, the rest of each.

        Raises ValueError where two have as many steps, or they are not for one model.
        """
        solvers = SolverSet([member.solver for member in members])
        said: list[dict[str, Any]] = [{**member.provenance} for member in members]
        sketches = [one["sketch"] for one in said if isinstance(one.get("sketch"), list)]
        if any(distance(sketches[0], other) > SAME for other in sketches):
            raise ValueError("they are for different models: their sketches differ")
        # One model may have several names, but behaves in one way.
        told = len(sketches) == len(said) or all(one.get("fingerprint") is not None for one in said)
        for name in ("fingerprint",) if told else ("model", "fingerprint"):
            different = {str(one[name]) for one in said if one.get(name) is not None}
            if len(different) > 1:
                raise ValueError(f"they are for different models: {name} is {' and '.join(sorted(different))}")
        common = {k: v for k, v in said[0].items() if all(k in other and other[k] == v for other in said)}
        own = [{name: value for name, value in one.items() if name not in common} for one in said]
        by_steps = {str(member.solver.steps): one for member, one in zip(members, own, strict=True)}
        return cls(solvers, cast(Provenance, {**common, "members": by_steps}))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "SolverFile":
        """Read a solver or a set, without gradients. Nothing of the file is executed.

        The tensors take no more memory than the file has bytes. The table, made once as a check, has steps^2 numbers:
        27 MB for a file of 29 kB with 1000 steps, the most allowed.
        Raises SolverFileError for anything wrong with the file or its path.
        """
        name = str(path)
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > MAXIMUM_FILE_BYTES:
                    raise _error(name, f"it has {size} bytes, more than the {MAXIMUM_FILE_BYTES} a solver may have")
                content = file.read(MAXIMUM_FILE_BYTES)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise _error(name, f"it can't be read ({reason}); check the path") from error
        return _parse(content, Path(path))

    def write(self, path: str | os.PathLike[str]) -> "SolverFile":
        """Write it; the same solver and provenance always give the same bytes. Returns the file at its new place.

        The file appears whole or not at all. Raises SolverFileError where the solver could not be read back.
        """
        held = self.content
        content = _bytes(held.family, held.settings(), self.provenance, held.tensors(), path)
        _parse(content, Path(path))
        write_whole(Path(path), content)
        return replace(self, path=Path(path))

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values, the tensors as nested lists of numbers."""
        tensors = {name: tensor.tolist() for name, tensor in self.content.tensors().items()}
        settings, provenance = self.content.settings(), dict(self.provenance)
        return {"family": self.content.family, "settings": settings, "tensors": tensors, "provenance": provenance}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], name: str) -> "SolverFile":
        """What `to_json` gave, checked as a file is. name: for errors. Raises SolverFileError."""
        try:
            tensors = {key: torch.tensor(value, dtype=torch.float64) for key, value in values["tensors"].items()}
            content = _bytes(str(values["family"]), values["settings"], values["provenance"], tensors, name)
        except SolverFileError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _error(name, f"it is not what a coefficient file holds ({type(error).__name__}: {error})") from error
        return replace(_parse(content, Path(name)), path=None)

    @property
    def name(self) -> str:
        """Name of the file without its extension, or a description of the solver."""
        return self.path.stem if self.path else f"{self.content.family} for {in_words(self.solvers.steps)} steps"


def save_solver(solver: Solver | SolverSet, path: str | os.PathLike[str], provenance: Mapping[str, Any]) -> None:
    """`SolverFile.write` of a solver, or a set, and its provenance."""
    SolverFile(solver, cast(Provenance, provenance)).write(path)


def load_solver(path: str | os.PathLike[str]) -> Solver | SolverSet:
    """`SolverFile.read`, the solver or the set only."""
    return SolverFile.read(path).content


def canonical(content: bytes) -> bytes:
    """safetensors bytes with the header's keys sorted; the library does not sort the metadata."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def _bytes(family: str, settings: object, provenance: object, tensors: dict[str, Tensor], path: object) -> bytes:
    """The file's content."""
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "family": family,
        "settings": _dumps(settings, path),
        "provenance": _dumps(provenance, path),
    }
    return canonical(save({name: tensor.to("cpu").contiguous() for name, tensor in tensors.items()}, metadata))


def _parse(content: bytes, path: Path) -> SolverFile:
    name = str(path)
    header = _header(content, name)
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise _error(name, f"it is not a coefficient file (its metadata has no format={FORMAT})")
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise _error(name, f"format_version is {version!r}, this version reads {FORMAT_VERSION}; update the pack")
    family = metadata.get("family")
    if not isinstance(family, str) or family not in _READ:
        raise _error(name, f"family is {family!r}, this version reads {', '.join(_READ)}; update the pack")
    settings, provenance = (_json_object(metadata, field, name) for field in ("settings", "provenance"))
    try:
        _check_tensors(header, _READ[family].shapes(settings), name)
        tensors = load(content)
        for tensor_name, tensor in tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise _error(name, f"tensor {tensor_name!r} has a value that is not finite")
        solver = _READ[family].from_file(settings, tensors)
    except SolverFileError:
        raise
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError, RuntimeError) as error:
        raise _error(name, f"it is not a solver of the family {family} ({type(error).__name__}: {error})") from error
    return SolverFile(solver, cast(Provenance, provenance), path)


def _header(content: bytes, name: str) -> dict[str, Any]:
    length = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
    if not 2 <= length <= len(content) - 8:
        raise _error(name, "it is damaged or not a safetensors file (the header does not fit); get it again")
    if length > MAXIMUM_HEADER_BYTES:
        raise _error(name, f"its header has {length} bytes, more than the {MAXIMUM_HEADER_BYTES} allowed")
    header = _loads(content[8 : 8 + length], "header", name)
    if not isinstance(header, dict):
        raise _error(name, "its header is not a JSON object; get it again")
    return header


def _check_tensors(header: dict[str, Any], shapes: dict[str, tuple[int, ...]], name: str) -> None:
    if set(header) != set(shapes):
        raise _error(name, f"it has the tensors {sorted(header)}, not {sorted(shapes)}")
    for tensor_name, shape in shapes.items():
        entry = header[tensor_name] if isinstance(header[tensor_name], dict) else {}
        if entry.get("dtype") not in _DTYPES:
            raise _error(name, f"tensor {tensor_name!r} has dtype {entry.get('dtype')!r}, not F32 or F64")
        if entry.get("shape") != list(shape):
            raise _error(name, f"tensor {tensor_name!r} has shape {entry.get('shape')}, not {list(shape)}")


def _json_object(metadata: dict[str, Any], field: str, name: str) -> dict[str, Any]:
    value = _loads(metadata[field], field, name) if isinstance(metadata.get(field), str) else None
    if not isinstance(value, dict):
        raise _error(name, f"metadata field {field!r} is missing or not a JSON object")
    return value


def _loads(text: str | bytes, what: str, name: str) -> Any:
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise _error(name, f"its {what} is not valid JSON ({type(error).__name__}: {error}); get it again") from error


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is not a finite number")
    return float(text)


def _dumps(value: object, path: object) -> str:
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _error(str(path), f"settings and provenance must be JSON values ({error})") from error


def _error(name: str, what: str) -> SolverFileError:
    return SolverFileError(f"{name}: {what}")
