"""Options as fields of a frozen dataclass, and the command line that is made from them."""

import argparse
import ast
import inspect
import math
import textwrap
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from dyweight.suggest import did_you_mean

from ..run.errors import TrainerError


class Checked:
    """The base of a dataclass of options, whose annotations are checked when one is made."""

    def __post_init__(self) -> None:
        check(self)

    def choices(self) -> Sequence[str]:
        """What decides which other options are read, such as `--method adam`."""
        return ()


Options = TypeVar("Options", bound=Checked)


class ReadBy:
    """In a field's annotation: the option is read with one of these choices only, and else is an error."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices


@dataclass(frozen=True)
class OneOf:
    """In a field's annotation: the texts that the option may be, or that its parts may be."""

    texts: tuple[str, ...]


POSITIVE = "positive"
"""In a field's annotation: the option is a finite number above 0."""


def check(options: Checked) -> None:
    """TrainerError for an option that is not what its field's annotation says, or that nothing would read."""
    choices = options.choices()
    for field in fields(options):  # type: ignore[arg-type]
        value, marks = getattr(options, field.name), _marks(type(options), field.name)
        if value is None or value == field.default:
            continue
        for mark in marks:
            if mark == POSITIVE and not all(0 < one < math.inf for one in _several(value)):
                raise TrainerError(f"{flag(field.name)} is {_text(value)}: give a number above 0")
            if isinstance(mark, OneOf):
                _check_one_of(flag(field.name), (value,) if isinstance(value, str) else value, mark.texts)
            if isinstance(mark, ReadBy) and not set(mark.choices) & set(choices):
                raise TrainerError(
                    f"{_given(field.name, value)} is for {' or '.join(mark.choices)}, and nothing would read it with "
                    f"{', '.join(choices) or 'these options'}: leave it out"
                )


def parse(options: type[Options], program: str, arguments: Sequence[str] | None = None) -> Options:
    """The options of a command line, a group of help for each parent class that has fields.

    The parser exits with a message where they don't fit.
    """
    parser = argparse.ArgumentParser(prog=program, description=inspect.getdoc(options))
    hints = typing.get_type_hints(options)
    for owner in options.__mro__[:-1]:
        help_texts = _field_docstrings(owner)
        group = parser if owner is options or not help_texts else parser.add_argument_group(inspect.getdoc(owner))
        for field in (field for field in fields(options) if field.name in help_texts):  # type: ignore[arg-type]
            required = field.default is MISSING
            arguments_of: dict[str, Any] = {"dest": field.name, "required": required, "help": help_texts[field.name]}
            if not required:
                arguments_of["default"] = field.default
                arguments_of["help"] += "" if field.default in (None, (), "") else f" [{field.default}]"
            group.add_argument(
                flag(field.name), **arguments_of, **_argument(hints[field.name], _marks(options, field.name))
            )
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


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _text(value: object) -> str:
    """As it stands on a command line."""
    return ",".join(map(str, _several(value)))


def _given(name: str, value: object) -> str:
    """As it stood on the command line."""
    if isinstance(value, bool):
        return flag(name) if value else "--no-" + flag(name)[2:]
    return f"{flag(name)} {value}"


def _check_one_of(option: str, texts: Sequence[str], allowed: tuple[str, ...]) -> None:
    for text in texts:
        if text not in allowed:
            raise TrainerError(f"{option} {text}: {did_you_mean(text, allowed)}The choices are {', '.join(allowed)}")


def _marks(options: type, name: str) -> tuple[Any, ...]:
    """What stands beside the type in `Annotated`."""
    marks: tuple[Any, ...] = getattr(_annotations(options)[name], "__metadata__", ())
    return marks


@cache  # of all fields at once: to look them up takes a fraction of a millisecond
def _annotations(options: type) -> dict[str, Any]:
    return typing.get_type_hints(options, include_extras=True)


def _argument(hint: Any, marks: tuple[Any, ...]) -> dict[str, Any]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    if typing.get_origin(hint) is Literal:
        return {"choices": typing.get_args(hint)}
    if typing.get_origin(hint) is tuple:
        kind = typing.get_args(hint)[0]
        return {"type": _several_of(kind), "metavar": "N[,N...]" if kind is int else "A,B,C"}
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    texts = next((mark.texts for mark in marks if isinstance(mark, OneOf)), None)
    if texts is not None:
        return {"metavar": "{" + ",".join(texts) + "}"}  # `check` refuses others, with the nearest
    return {"type": hint, "metavar": {int: "N", float: "X", Path: "PATH"}.get(hint, "NAME")}


def _several_of(kind: type) -> Callable[[str], tuple[Any, ...]]:
    def read(text: str) -> tuple[Any, ...]:
        return tuple(kind(part.strip()) for part in text.split(","))

    read.__name__ = f"{kind.__name__}s with commas between them"  # for argparse's message
    return read


def _field_docstrings(options: type) -> dict[str, str]:
    """The docstring under each field that the class itself has, which Python forgets."""
    found = {}
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(options))).body
    assert isinstance(definition, ast.ClassDef)
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
            assert isinstance(statement.target, ast.Name) and isinstance(following.value, ast.Constant)
            found[statement.target.id] = " ".join(str(following.value.value).split()).replace("%", "%%")
    return found
