"""The trainer inside ComfyUI, which loads the pack by its path and not by the names of its rooms."""

import contextlib
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from types import ModuleType

_PACK = str(__package__).rpartition(".")[0]


@contextlib.contextmanager
def rooms_by_name(*rooms: str) -> Iterator[None]:
    """While the trainer is imported, `dyweight` and `comfyui`, as it calls them, are the pack's own; afterwards these
    names are again whoever's they were."""
    own = {name: module for room in rooms for name, module in _modules(room)}
    before = {name: sys.modules.get(name) for name in own}
    sys.modules.update(own)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


def _modules(room: str) -> Iterator[tuple[str, ModuleType]]:
    """(name as the trainer has it, module) of a room and of all in it."""
    package = importlib.import_module(f"{_PACK}.{room}")
    yield room, package
    for found in pkgutil.walk_packages(package.__path__, f"{_PACK}.{room}."):
        with contextlib.suppress(ImportError):  # what needs a library that ComfyUI lacks, the trainer does without
            yield found.name.removeprefix(f"{_PACK}."), importlib.import_module(found.name)
