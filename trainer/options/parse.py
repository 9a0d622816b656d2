"""A parser made from the fields of a frozen dataclass."""

import argparse
import ast
import inspect
import textwrap
import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..run.errors import TrainerError

Options = TypeVar("Options")


def parse(options: type[Options], program: str, arguments: Sequence[str] | None = None) -> Options:
    """The options of a command line; the parser exits with a message where they don't fit."""
    parser = argparse.ArgumentParser(prog=program, description=inspect.getdoc(options))
    help_texts, hints = _field_docstrings(options), typing.get_type_hints(options)
    for field in fields(options):  # type: ignore[arg-type]
        required = field.default is MISSING
        arguments_of: dict[str, Any] = {"dest": field.name, "required": required, "help": help_texts[field.name]}
        if not required:
            arguments_of["default"] = field.default
            arguments_of["help"] += "" if field.default is None else f" [{field.default}]"
        parser.add_argument(flag(field.name), **arguments_of, **_argument(hints[field.name]))
    try:
        return options(**vars(parser.parse_args(arguments)))
    except TrainerError as error:
        parser.error(str(error))


def check_seed(seed: int) -> None:
    """TrainerError for a seed that a generator can't take."""
    if not 0 <= seed < 2**63:
        raise TrainerError(f"--seed is {seed}: give a whole number from 0 to 2^63 - 1")


def flag(name: str) -> str:
    """The option of a field."""
    return "--" + name.replace("_", "-")


def _argument(hint: Any) -> dict[str, Any]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    if typing.get_origin(hint) is Literal:
        return {"choices": typing.get_args(hint)}
    if typing.get_origin(hint) is tuple:
        return {"type": lambda text: tuple(part.strip() for part in text.split(",")), "metavar": "A,B,C"}
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": hint, "metavar": {int: "N", float: "X", Path: "PATH"}.get(hint, "NAME")}


def _field_docstrings(options: type) -> dict[str, str]:
    """The docstring under each field, which Python itself forgets."""
    found = {}
    for parent in options.__bases__:
        if parent is not object:
            found.update(_field_docstrings(parent))
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(options))).body
    assert isinstance(definition, ast.ClassDef)
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
            assert isinstance(statement.target, ast.Name) and isinstance(following.value, ast.Constant)
            found[statement.target.id] = " ".join(str(following.value.value).split()).replace("%", "%%")
    return found
