"""Runs inside a ComfyUI process: ComfyUI is first on sys.path, the pack is loaded by its path as ComfyUI does it."""

import asyncio
import os
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PACK = Path(__file__).parents[3]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--comfyui", required=True, help="the ComfyUI checkout")
    parser.addoption("--device", choices=("cpu", "cuda"), default="cpu", help="where ComfyUI samples")
    parser.addoption("--vram", choices=("normal", "lowvram", "novram"), default="normal", help="ComfyUI's memory mode")
    parser.addoption("--record", action="store_true", help="write the tables of the docs that tests make")


def pytest_configure(config: pytest.Config) -> None:
    sys.path.insert(0, config.getoption("--comfyui"))
    os.environ["COMFYUI_PATH"] = config.getoption("--comfyui")  # for the command line, which looks for one
    runpy.run_path(str(PACK / "tests" / "shapes.py"))["install"]("trainer")
    from comfy.cli_args import args

    args.cpu = config.getoption("--device") == "cpu"
    args.lowvram, args.novram = (config.getoption("--vram") == mode for mode in ("lowvram", "novram"))
    import folder_paths

    models = Path(config.getoption("basetemp") or "/tmp/dyweight-inside") / "models"
    folder_paths.models_dir = str(models)


@pytest.fixture(scope="session")
def comfy_version() -> tuple[int, ...]:
    from comfyui_version import __version__

    return tuple(int(part) for part in __version__.split(".")[:3])


@pytest.fixture(scope="session")
def node_classes() -> dict[str, Any]:
    """All nodes of this ComfyUI by id, with the pack's among them."""
    import nodes

    assert asyncio.run(nodes.load_custom_node(str(PACK)))
    return nodes.NODE_CLASS_MAPPINGS


@pytest.fixture(scope="session")
def pack(node_classes) -> ModuleType:
    """The pack as ComfyUI loaded it; its rooms are attributes: pack.dyweight, pack.nodes."""
    door = str(PACK / "__init__.py")
    return next(module for module in list(sys.modules.values()) if vars(module).get("__file__") == door)


@pytest.fixture(scope="session")
def beside_comfyui(pack) -> None:
    """The pack's rooms by the names of the command line, after ComfyUI's own modules."""
    sys.path.append(str(PACK))


@pytest.fixture(scope="session")
def trainer(beside_comfyui) -> ModuleType:
    """The trainer's module of ComfyUI's checkpoints."""
    import trainer.checkpoints.comfy.checkpoint as module

    return module


@pytest.fixture(scope="session")
def knows_flux() -> None:
    """Skips where this ComfyUI does not know the tiny one."""
    import sampling_tools

    sampling_tools.needs_tiny("flux")


@pytest.fixture(autouse=True)
def _models_of_others() -> Iterator[None]:
    """ComfyUI collects garbage at each call of a network while it lists a model whose MODEL is gone."""
    yield
    import comfy.model_management

    loaded = comfy.model_management.current_loaded_models
    loaded[:] = [one for one in loaded if not one.is_dead()]


@pytest.fixture(autouse=True)
def _networks_of_others() -> Iterator[None]:
    yield
    import sampling_tools

    sampling_tools.put_networks_back()


@pytest.fixture(autouse=True)
def _a_run_of_its_own() -> None:
    """What an earlier test was told, this one is told again."""
    for name, module in list(sys.modules.items()):
        if name.endswith(".nodes.notes"):
            module._said.clear()


@pytest.fixture
def user_files(pack) -> Iterator[Path]:
    """models/dyweight of this process, empty before and after."""
    import folder_paths

    folder = Path(folder_paths.get_folder_paths("dyweight")[0])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
