"""Shapes that docstrings tell are checked while the tests run: `noise: [B, *shape]`, `Returns [steps + 1]`.

An import hook wraps the public functions, properties and constructors of a package. A name in a shape is the number of
that name where the function takes one or its object has one, else the same size throughout a call (jaxtyping).
"""

import ast
import functools
import importlib.machinery
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Shaped, jaxtyped
from torch import Tensor

_SHAPE = r"\[[^\[\]]*\](?:,? or \[[^\[\]]*\])*"
_TOLD = re.compile(rf"(?<!\w)(?:(\w+):?\s+)?({_SHAPE})")
_RETURNED = "the result"


class ShapeError(TypeError):
    """A tensor whose shape is not the one that the docstring tells."""


def install(package: str) -> None:
    """Check what will be imported of a package from now on."""
    sys.meta_path.insert(0, _Finder(package))


def told_by(function: Callable[..., Any], text: str | None = None) -> dict[str, str]:
    """Parameter, or `the result`, -> its shape as the docstring has it, such as `[steps + 1]`.

    text: the docstring, where the function inherits it.
    """
    parameters, told = inspect.signature(function).parameters, {}
    result = inspect.signature(function).return_annotation
    for name, shape in _TOLD.findall(text or function.__doc__ or ""):
        if name in parameters:
            if _takes_tensor(parameters[name].annotation):
                told.setdefault(name, shape)
        elif _takes_tensor(result):
            told.setdefault(_RETURNED, shape)
    return told


def checked(
    function: Callable[..., Any], text: str | None = None, attributes: dict[str, str] | None = None
) -> Callable[..., Any]:
    """The function, whose arguments, result and, of a constructor, attributes are compared with their shapes.

    They are compared after the call, so that what the function itself refuses it refuses in its own words.
    """
    told, signature = {**told_by(function, text), **(attributes or {})}, inspect.signature(function)
    sizes = set(re.findall(r"(?<![*\w])[a-z_]\w*", " ".join(told.values())))
    seen: set[object] = set()
    if not told:
        return function

    @functools.wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        result = function(*given, **named)
        bound = signature.bind(*given, **named)
        bound.apply_defaults()
        values, owner = bound.arguments, bound.arguments.get("self")

        def value(name: str) -> Any:
            return result if name == _RETURNED else values.get(name, getattr(owner, name, None))

        found = {name: tuple(tensor.shape) for name in told if isinstance(tensor := value(name), Tensor)}
        numbers = {name: number for name in sizes if type(number := value(name)) is int}
        case = (*found.items(), *numbers.items())
        if case not in seen:
            _compare(function.__qualname__, {name: (shape, told[name]) for name, shape in found.items()}, numbers)
            seen.add(case)
        return result

    return call


def _compare(where: str, shapes: dict[str, tuple[tuple[int, ...], str]], numbers: dict[str, int]) -> None:
    """shapes: name -> (found, told). Raises ShapeError."""

    def axes(shape: str) -> list[str]:
        words = re.sub(r"(?<=\w) (?=\w)", "_", shape[1:-1])
        filled = re.sub(r"(?<![*\w])[a-z_]\w*", lambda name: str(numbers.get(name[0], name[0])), words)
        return [axis.replace(" ", "") for axis in filled.split(",") if axis.strip()]

    kinds = {name: [axes(one) for one in re.split(",? or ", told)] for name, (_, told) in shapes.items()}
    plain = {axis for choices in kinds.values() for one in choices for axis in one if axis.isidentifier()}

    def annotation(one: list[str]) -> Any:
        # An expression of sizes that stand nowhere alone is a size of its own.
        known = [axis[0] == "*" or set(re.findall(r"[^\W\d]\w*", axis)) <= plain for axis in one]
        return Shaped[Tensor, " ".join(a if k else _named(a) for a, k in zip(one, known, strict=True))]

    with jaxtyped("context"):
        for name, (found, told) in sorted(shapes.items(), key=lambda entry: "+" in entry[1][1]):
            if not any(isinstance(torch.empty(found, device="meta"), annotation(one)) for one in kinds[name]):
                others = ", ".join(f"{other} {list(shape)}" for other, (shape, _) in shapes.items() if other != name)
                raise ShapeError(f"{where}: {name} is {told}, got {list(found)}; {others}")


def _named(axis: str) -> str:
    return axis.replace("+", "_plus_").replace("-", "_minus_")


def _takes_tensor(annotation: Any) -> bool:
    return annotation is Tensor or (isinstance(annotation, types.UnionType) and Tensor in annotation.__args__)


def _wrap(module: types.ModuleType) -> None:
    """In place, before anyone can have taken a name out of the module."""
    attributes = dict(_attributes(module))
    for name, value in list(vars(module).items()):
        if getattr(value, "__module__", None) != module.__name__ or name.startswith("_"):
            continue
        if inspect.isfunction(value):
            setattr(module, name, checked(value))
        elif inspect.isclass(value):
            for member, own in list(vars(value).items()):
                text = inspect.getdoc(getattr(value, member))
                if isinstance(own, property) and own.fget and not member.startswith("_"):
                    setattr(value, member, property(checked(own.fget, text), own.fset, own.fdel, own.__doc__))
                elif inspect.isfunction(own) and not member.startswith("_"):
                    setattr(value, member, checked(own, text))
                elif inspect.isfunction(own) and member == "__init__":
                    setattr(value, member, checked(own, own.__doc__, attributes.get(name)))


def _attributes(module: types.ModuleType) -> Iterator[tuple[str, dict[str, str]]]:
    """Class -> its attributes whose docstring begins with a shape."""
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ClassDef):
            told = {}
            for field, text in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    found = re.match(_SHAPE, str(ast.literal_eval(text.value)))
                    if found and isinstance(field.target, ast.Name):
                        told[field.target.id] = found[0]
            yield node.name, told


class _Finder:
    """Finds the modules of one package as Python does, and wraps each when it has been executed."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] != self._package:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            execute = spec.loader.exec_module

            def execute_and_wrap(module: types.ModuleType) -> None:
                execute(module)
                _wrap(module)

            spec.loader.exec_module = execute_and_wrap  # type: ignore[method-assign]
        return spec
