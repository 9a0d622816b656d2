"""Pickles read as data: their opcodes are followed here, and no name in them is ever imported."""

import pickletools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

Make = Callable[..., object]

_VALUES = {
    *("BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], object]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": set,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


@dataclass(frozen=True, slots=True)
class Named:
    """A function or class that a pickle names: only its name."""

    name: str


class PickleReader:
    """Follows the opcodes of a pickle that plain data and tensors need, and no others."""

    def __init__(self, names: Mapping[str, Make | None], persistent: Callable[[Any], object] | None = None) -> None:
        """
        names: all that a pickle may name, and what stands in where it is called; None where it must not be called.
        persistent: makes an object of a persistent id.
        """
        self._names, self._persistent = names, persistent
        self._actions: dict[str, Callable[[Any], None]] = {
            "MARK": lambda _: self._stack.append(_MARK),
            "TUPLE": lambda _: self._stack.append(tuple(self._marked())),
            "APPEND": lambda _: self._extend(self._last(1)),
            "APPENDS": lambda _: self._extend(self._marked()),
            "SETITEM": lambda _: self._set_items(self._last(2)),
            "SETITEMS": lambda _: self._set_items(self._marked()),
            "BINPUT": self._memoize,
            "LONG_BINPUT": self._memoize,
            "MEMOIZE": lambda _: self._memoize(len(self._memo)),
            "BINGET": self._recall,
            "LONG_BINGET": self._recall,
            "GLOBAL": lambda name: self._name(name.replace(" ", ".", 1)),
            "INST": lambda name: self._name(name.replace(" ", ".", 1)),
            "STACK_GLOBAL": lambda _: self._name(".".join(self._last(2))),
            "REDUCE": lambda _: self._call(),
            "BINPERSID": lambda _: self._refer(),
            "PROTO": lambda _: None,
            "FRAME": lambda _: None,
        }

    def load(self, stream: BinaryIO) -> Any:
        """The object of the pickle that begins here; leaves the stream behind it. Raises ValueError and others."""
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        for opcode, argument in _opcodes(stream):
            if opcode != "STOP":
                self._follow(opcode, argument)
        (loaded,) = self._last(1)
        return loaded

    def _follow(self, opcode: str, argument: Any) -> None:
        if opcode in _VALUES:
            self._stack.append(argument)
        elif opcode in _CONSTANTS:
            self._stack.append(_CONSTANTS[opcode])
        elif opcode in _EMPTY:
            self._stack.append(_EMPTY[opcode]())
        elif opcode in _TUPLES:
            self._stack.append(tuple(self._last(_TUPLES[opcode])))
        elif opcode in self._actions:
            self._actions[opcode](argument)
        else:
            raise ValueError(f"refused: its pickle has the opcode {opcode}, which plain data and tensors do not need")

    def _last(self, count: int) -> list[Any]:
        """Takes the last objects from the stack."""
        taken = self._stack[-count:]
        if len(taken) < count or any(value is _MARK for value in taken):
            raise ValueError("no pickle, or a damaged one: an object is missing")
        del self._stack[-count:]
        return taken

    def _marked(self) -> list[Any]:
        """Takes all behind the last mark from the stack, and the mark."""
        for place in range(len(self._stack) - 1, -1, -1):
            if self._stack[place] is _MARK:
                taken = self._stack[place + 1 :]
                del self._stack[place:]
                return taken
        raise ValueError("no pickle, or a damaged one: a mark is missing")

    def _extend(self, values: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise ValueError("no pickle, or a damaged one: values for what is no list")
        self._stack[-1].extend(values)

    def _set_items(self, flat: list[Any]) -> None:
        items = self._stack[-1]
        # Plain keys only: the hash of nested tuples can take forever.
        if type(items) is not dict or len(flat) % 2 or any(type(key) not in (str, int) for key in flat[::2]):
            raise ValueError("no pickle, or a damaged one: entries for what is no dictionary with plain keys")
        items.update(zip(flat[::2], flat[1::2], strict=True))

    def _memoize(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _recall(self, index: int) -> None:
        if index not in self._memo:
            raise ValueError("no pickle, or a damaged one (it refers to what it has not made)")
        self._stack.append(self._memo[index])

    def _name(self, name: str) -> None:
        if name not in self._names:
            raise ValueError(
                f"refused: it names {ascii(name)[1:-1][:200]}, which the authors' files do not need; "
                "by such a name a pickle can run anything. Nothing of it was run or written"
            )
        self._stack.append(Named(name))

    def _call(self) -> None:
        function, arguments = self._last(2)
        make = self._names.get(function.name) if type(function) is Named else None
        if make is None or type(arguments) is not tuple:
            raise ValueError(f"refused: it calls {getattr(function, 'name', 'what is no function')}")
        self._stack.append(make(*arguments))

    def _refer(self) -> None:
        (identifier,) = self._last(1)
        if self._persistent is None:
            raise ValueError("refused: it has a persistent id, and no file around it to refer to")
        self._stack.append(self._persistent(identifier))


def _opcodes(stream: BinaryIO) -> Iterator[tuple[str, Any]]:
    """(name, argument) up to STOP. Raises ValueError for bytes that are no pickle."""
    try:
        yield from ((opcode.name, argument) for opcode, argument, _ in pickletools.genops(stream))
    except Exception as error:
        raise ValueError(f"no pickle, or a damaged one ({error})") from error
