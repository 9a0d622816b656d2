"""The ComfyUI server on which a workflow is run."""

from pathlib import Path

import pytest

from tests.comfy.checkouts import ROOT
from trainer.run.errors import TrainerError
from trainer.workflow.server import server, with_pack


@pytest.mark.parametrize("installed", [False, True])
def test_a_server_that_is_started_gets_the_pack_once(tmp_path: Path, installed: bool) -> None:
    custom_nodes, own = tmp_path / "comfyui" / "custom_nodes", tmp_path / "own"
    custom_nodes.mkdir(parents=True)
    own.mkdir()
    if installed:
        (custom_nodes / "any-name").symlink_to(ROOT)
    assert bool(with_pack(custom_nodes.parent, own)) != installed
    assert [one.resolve() for one in own.glob("custom_nodes/*")] == ([] if installed else [ROOT])


def test_an_address_without_a_server_is_named() -> None:
    with (
        pytest.raises(TrainerError, match=r"--server http://127.0.0.1:9: no ComfyUI answers there"),
        server("http://127.0.0.1:9", None),
    ):
        pass
