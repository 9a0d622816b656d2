"""What all tests share: one thread a process, no cache of the user's, no clock, and shapes that are checked."""

import os
import tempfile
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from tests import shapes

LONGEST_FIRST = ("comfy", "trainer", "benchmarks")

shapes.install("dyweight")
CACHE = tempfile.TemporaryDirectory(prefix="dyweight-tests-")
"""Stands in for ~/.cache of whoever runs the tests, before anything is imported that looks there."""
os.environ.update(XDG_CACHE_HOME=CACHE.name, MPLCONFIGDIR=CACHE.name)
# A time limit for an example, the default, fails on a busy machine; examples that change make a red run unrepeatable.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Here and in processes that tests start: small tensors are slower on many threads, and test processes share the
    cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What pytest-xdist keeps in one process: the tests of a server, and those for which a file makes something once.

    Rooms with long tests go first, so that no process is left with one at the end.
    """
    for item in items:
        made_once = {defs[-1].scope for defs in item._fixtureinfo.name2fixturedefs.values()}  # type: ignore[attr-defined]
        if "server" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group(f"server {item.callspec.params['server']}"))  # type: ignore[attr-defined]
        elif made_once & {"module", "class", "package"}:
            item.add_marker(pytest.mark.xdist_group(item.location[0]))
    items.sort(key=lambda item: [item.location[0].startswith(f"tests/{room}/") for room in LONGEST_FIRST], reverse=True)
