"""What all tests share: one thread a process, no cache of the user's, no clock, and shapes that are checked."""

import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from tests import shapes

LONGEST_FIRST = ("tests/comfy/", "tests/trainer/run/", "tests/trainer/test_", "tests/trainer/", "tests/benchmarks/")
SERVED = ("test_server", "test_browser", "test_workflows")
"""Files whose tests take the fixture `server`."""

for package in ("dyweight", "trainer"):
    shapes.install(package)
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Folders with long tests go first, so that no process is left with one at the end."""
    items.sort(key=lambda item: [item.location[0].startswith(start) for start in LONGEST_FIRST], reverse=True)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was not tested, and why, at the end, where it is read."""
    skipped = Counter(str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []))
    for reason, count in skipped.items():
        terminalreporter.write_line(f"{count} skipped: {reason.removeprefix('Skipped: ')}", yellow=True, bold=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One process for a file, for what its fixtures make once, one for all tests of a ComfyUI server, and any for each
    test that is a process of its own."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFileOrServer(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, version = nodeid.partition("::")[0], re.search(r"\[(\d+\.\d+\.\d+)", nodeid)
            if Path(file).stem == "test_inside":
                return nodeid
            return f"server {version[1]}" if version and Path(file).stem.startswith(SERVED) else file

    return ByFileOrServer(config, log)
