"""One ComfyUI server per version for all tests that drive one."""

from collections.abc import Iterator

import pytest

from tests.comfy.checkouts import MISSING, checkouts, version
from tests.comfy.server import Server, started


@pytest.fixture(scope="session", params=checkouts() or [None], ids=lambda path: version(path) if path else "none")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running ComfyUI with the pack and `testing_nodes`; skips where there is no ComfyUI."""
    if request.param is None:
        pytest.skip(MISSING)
    with started(request.param, tmp_path_factory.mktemp(f"comfyui-{version(request.param)}") / "base") as running:
        yield running
