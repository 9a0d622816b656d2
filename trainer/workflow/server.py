"""A ComfyUI server that runs one workflow: one that is there, or one that is started and ended."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..checkpoints.comfy.installation import find_comfyui
from ..run.errors import TrainerError

DEFAULT, START_SECONDS, SAVING_SECONDS = "http://127.0.0.1:8188", 600, 600
PACK = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def server(address: str | None, comfyui: Path | None) -> Iterator[str]:
    """The address of a server with the pack. Raises TrainerError where there is none and none can be started."""
    named = (address or DEFAULT).rstrip("/")
    if _answers(named):
        yield named
    elif address is not None:
        raise TrainerError(f"--server {address}: no ComfyUI answers there; start it, or leave it out")
    else:
        with _started(find_comfyui(comfyui)) as own:
            yield own


def run(address: str, graph: dict[str, Any], node: str, tell: Callable[[str], object]) -> list[str]:
    """Run a workflow to its end; what a node shows. tell: called with the lines of the fit as they come.

    Raises TrainerError with what the server says.
    """
    if "DyWeightFit" not in json.loads(_get(f"{address}/object_info/DyWeightFit") or "{}"):
        raise TrainerError(f"--server {address}: it has no node DyWeightFit; install this pack there and restart it")
    return asyncio.run(_run(address, graph, node, tell))


async def _run(address: str, graph: dict[str, Any], node: str, tell: Callable[[str], object]) -> list[str]:
    import aiohttp  # ComfyUI brings it

    client = uuid.uuid4().hex
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{address}/ws?clientId={client}", max_msg_size=0) as events,
    ):
        async with session.post(f"{address}/prompt", json={"prompt": graph, "client_id": client}) as answer:
            said = await answer.json()
        if "prompt_id" not in said:
            raise TrainerError(f"--workflow: the server refuses it: {_refusal(said)}")
        own = str(said["prompt_id"])
        try:
            await _end(events, own, tell)
        except asyncio.CancelledError:  # Ctrl-C, after which the server would go on
            _get(f"{address}/queue", {"delete": [own]})
            _get(f"{address}/interrupt", {"prompt_id": own})
            await _saved(address, own)
            raise
        except ConnectionError:
            message = f"{address}: the server closed the connection; start it, and run it again to go on"
            raise TrainerError(message) from None
    history: dict[str, Any] = {}
    for _ in range(100):  # written a moment after the last message
        history = json.loads(_get(f"{address}/history/{own}") or "{}")
        if history:
            break
        await asyncio.sleep(0.1)
    outputs = history.get(own, {}).get("outputs", {})
    return list(outputs.get(node, {}).get("text", []))


async def _end(events: Any, own: str, tell: Callable[[str], object]) -> None:
    """Wait for the end of a run. Raises TrainerError where it failed, ConnectionError where the server is gone."""
    import aiohttp

    async for event in events:
        if event.type is not aiohttp.WSMsgType.TEXT:
            continue
        message = json.loads(event.data)
        if not isinstance(data := message.get("data"), dict):  # of another pack
            continue
        if message["type"] == "dyweight.fit":
            tell(data["text"])
        if data.get("prompt_id") != own:
            continue
        if message["type"] in ("execution_error", "execution_interrupted"):
            raise TrainerError(data.get("exception_message") or "it was cancelled; run it again to go on")
        if message["type"] == "execution_success":
            return
    raise ConnectionError


async def _saved(address: str, own: str) -> None:
    """Wait until a run that was cancelled is over, for it measures and saves the best so far."""
    print("cancelled: the best so far is being measured and saved; Ctrl-C again to leave it")
    for _ in range(2 * SAVING_SECONDS):
        running = json.loads(_get(f"{address}/queue") or "{}").get("queue_running", [])
        if not any(own in one for one in running):
            return
        await asyncio.sleep(0.5)


def _refusal(said: dict[str, Any]) -> str:
    errors = [
        f"node {name}: {error.get('message')}: {error.get('details')}"
        for name, node in (said.get("node_errors") or {}).items()
        for error in node.get("errors", [])
    ]
    return "; ".join(errors) or str(said.get("error") or said)


@contextlib.contextmanager
def _started(comfyui: Path) -> Iterator[str]:
    import torch

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "main.py", "--port", str(port), "--disable-auto-launch"]
    command += [] if torch.cuda.is_available() or torch.backends.mps.is_available() else ["--cpu"]
    with tempfile.TemporaryDirectory() as folder:
        command += with_pack(comfyui, Path(folder))
        log = Path(folder) / "log.txt"
        with log.open("w") as file:
            process = subprocess.Popen(command, cwd=comfyui, stdout=file, stderr=file)
        try:
            print(f"starting ComfyUI in {comfyui}")
            _wait(process, f"http://127.0.0.1:{port}", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def with_pack(comfyui: Path, folder: Path) -> list[str]:
    """Options with which ComfyUI loads this pack: none where it is installed, else one that names a file in a folder,
    which links to it."""
    if any(one.resolve() == PACK for one in (comfyui / "custom_nodes").glob("*")):
        return []
    (folder / "custom_nodes").mkdir()
    (folder / "custom_nodes" / "comfyui-dyweight").symlink_to(PACK)
    paths = folder / "paths.yaml"
    paths.write_text(f"pack:\n  base_path: {folder}\n  custom_nodes: custom_nodes\n")
    return ["--extra-model-paths-config", str(paths)]


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if _answers(address):
            return
        time.sleep(0.2)
    raise TrainerError(f"ComfyUI did not start; its log ends:\n{log.read_text('utf-8', 'replace')[-2000:]}")


def _answers(address: str) -> bool:
    return _get(f"{address}/system_stats") is not None


def _get(url: str, told: dict[str, Any] | None = None) -> str | None:
    """What the server answers, to a POST where it is told something; None where it does not."""
    content = None if told is None else json.dumps(told).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())
    except (OSError, urllib.error.URLError, ValueError):
        return None
