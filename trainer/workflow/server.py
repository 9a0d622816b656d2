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

DEFAULT, START_SECONDS = "http://127.0.0.1:8188", 600
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
        async for event in events:
            if event.type is not aiohttp.WSMsgType.TEXT:
                continue
            message = json.loads(event.data)
            data = message.get("data", {})
            if message["type"] == "dyweight.fit":
                tell(data["text"])
            if data.get("prompt_id") != said["prompt_id"]:
                continue
            if message["type"] in ("execution_error", "execution_interrupted"):
                raise TrainerError(data.get("exception_message") or "it was cancelled; run it again to go on")
            if message["type"] == "execution_success":
                break
        else:
            raise TrainerError(f"{address}: the server closed the connection; start it, and run it again to go on")
    history: dict[str, Any] = {}
    for _ in range(100):  # written a moment after the last message
        history = json.loads(_get(f"{address}/history/{said['prompt_id']}") or "{}")
        if history:
            break
        await asyncio.sleep(0.1)
    outputs = history.get(said["prompt_id"], {}).get("outputs", {})
    return list(outputs.get(node, {}).get("text", []))


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
        if PACK.parent.name != "custom_nodes":  # a clone: the server finds it beside its own custom nodes
            (Path(folder) / "custom_nodes").mkdir()
            (Path(folder) / "custom_nodes" / "comfyui-dyweight").symlink_to(PACK)
            paths = Path(folder) / "paths.yaml"
            paths.write_text(f"pack:\n  base_path: {folder}\n  custom_nodes: custom_nodes\n")
            command += ["--extra-model-paths-config", str(paths)]
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


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if _answers(address):
            return
        time.sleep(0.2)
    raise TrainerError(f"ComfyUI did not start; its log ends:\n{log.read_text('utf-8', 'replace')[-2000:]}")


def _answers(address: str) -> bool:
    return _get(f"{address}/system_stats") is not None


def _get(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return str(answer.read().decode())
    except (OSError, urllib.error.URLError, ValueError):
        return None
