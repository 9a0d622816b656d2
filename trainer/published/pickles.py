"""Pickles of plain data and tensors, read as data: the standard library's unpickler with two closed lists.

No name in a pickle is imported, and only opcodes and names on the lists are followed. This is the unpickler in Python:
the one in C takes gigabytes for a memo of many entries, and crashes on a deeply nested dictionary key. Here nothing
takes more memory than a few times the file's size, a tensor is a view of its bytes, and keys are plain.
"""

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, BinaryIO, ClassVar

import torch
from torch import Tensor

MAXIMUM_NUMBERS = 1 << 20
"""Largest tensor: a few bytes with stride 0 must not ask for more."""
STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.BoolStorage": torch.uint8,
}
_OPCODES = """
    PROTO FRAME STOP MARK MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET NONE NEWTRUE NEWFALSE BININT BININT1 BININT2
    LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES EMPTY_DICT EMPTY_LIST EMPTY_SET EMPTY_TUPLE
    TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS GLOBAL INST STACK_GLOBAL REDUCE BINPERSID
"""
_LEGACY = (0x1950A86A20F9469CFC6C, 1001)


def refuse(what: str, *_: object) -> None:
    """Stands in for anything that no file of the authors does."""
    raise ValueError(f"refused: {what}")


class PickleReader(pickle._Unpickler):
    """The unpickler in Python, whose opcodes are a table. names: what stands in for each name that a pickle may have.

    storage: what stands in for a number of values stored elsewhere under a key. `load` raises ValueError and others.
    """

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def __init__(
        self,
        stream: BinaryIO,
        names: Mapping[str, Any],
        storage: Callable[[torch.dtype, str, int], Any] | None = None,
    ) -> None:
        super().__init__(stream)
        self._names, self._storage = names, storage

    def find_class(self, module: str, name: str) -> Any:
        named = f"{module}.{name}"
        if named not in self._names:
            refuse(
                f"it names {ascii(named)[1:-1][:200]}, with which a pickle can run anything; nothing was run or written"
            )
        return self._names[named]

    def persistent_load(self, pid: Any) -> Any:
        match pid:
            case ("storage", torch.dtype() as dtype, str(key), _, int(numbers), *view) if self._storage:
                if view in ([], [None]):
                    return self._storage(dtype, key, numbers)
        refuse("it has a persistent id that is not a storage of this file")

    def _set_items(self, count: int = 0) -> None:
        flat = [self.stack.pop() for _ in range(count)][::-1] or self.pop_mark()
        items, keys, values = self.stack[-1], flat[::2], flat[1::2]
        if type(items) is not dict or any(type(key) not in (str, int) for key in keys):
            raise ValueError("damaged: entries for something other than a dictionary with plain keys")
        items.update(zip(keys, values, strict=True))

    dispatch: ClassVar[dict[int, Any]] = {
        **{ord(code.code): partial(refuse, f"its pickle has the opcode {code.name}") for code in pickletools.opcodes},
        **{getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _OPCODES.split()},
        pickle.SETITEM[0]: partial(_set_items, count=2),
        pickle.SETITEMS[0]: _set_items,
    }


def storage(content: bytes, dtype: torch.dtype, numbers: int) -> Tensor:
    """[numbers], little-endian."""
    if len(content) != numbers * dtype.itemsize:
        raise ValueError(f"damaged: a tensor of {numbers} numbers has {len(content)} bytes")
    return torch.frombuffer(bytearray(content), dtype=dtype)


def legacy_storage(content: bytes) -> Tensor:
    """[numbers] in torch's layout before zip: pickles of magic, version, machine, storage, keys; then count, bytes."""
    stream = io.BytesIO(content)
    read = (PickleReader(stream, STORAGES, lambda *described: described).load() for _ in range(5))
    magic, version, machine, (dtype, key, numbers), keys = read
    if (magic, version) != _LEGACY or not machine["little_endian"] or type(key) is not str or keys != [key]:
        raise ValueError("a storage inside it is not torch's")
    if int.from_bytes(stream.read(8), "little") != numbers:
        raise ValueError("damaged: a storage inside it does not fit")
    return storage(stream.read(), dtype, numbers)


def _rebuild_tensor(stored: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    """A view of a storage, whose bounds torch checks; gradients and hooks are left out."""
    if len(size) > 4 or any(type(n) is not int or not 0 <= n <= MAXIMUM_NUMBERS for n in (offset, *size, *stride)):
        raise ValueError("damaged: a tensor has an impossible shape")
    if math.prod(size) > MAXIMUM_NUMBERS:
        raise ValueError("damaged: a tensor has more numbers than its file")
    return stored.as_strided(size, stride, offset)


TENSORS = {
    "collections.OrderedDict": lambda: {},
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
}
"""What rebuilds tensors and state dicts."""
