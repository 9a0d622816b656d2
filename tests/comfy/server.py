"""A ComfyUI server in a folder of its own, with the pack in its custom_nodes, driven as the page drives it."""

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.comfy.checkouts import ROOT, environment, version
from tests.ports import reserved_port

PACK = "comfyui-dyweight"
START_SECONDS, RUN_SECONDS = 300, 300


class Graph(dict[str, Any]):
    """A workflow in the API's format."""

    def add(self, node: str, **inputs: Any) -> tuple[str, int]:
        """Add a node; the answer is the link to its first output."""
        name = str(len(self) + 1)
        self[name] = {"class_type": node, "inputs": inputs}
        return name, 0


class RefusedError(Exception):
    """The server would not take the graph; the message is its whole answer."""


@dataclass
class Run:
    """What one graph did."""

    end: str
    """The last message: execution_success, execution_error or execution_interrupted."""
    error: str
    progress: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Node -> (step, steps) as they came over the websocket."""
    previews: int = 0
    outputs: dict[str, Any] = field(default_factory=dict)
    """Node -> what it shows."""
    history: dict[str, Any] = field(default_factory=dict)


@dataclass
class Server:
    checkout: Path
    base: Path
    port: int
    log: Path

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(int(part) for part in version(self.checkout).split("."))

    @property
    def families(self) -> tuple[str, ...]:
        """The tiny models that this ComfyUI recognises; before 0.9 it knows FLUX at its full width only."""
        return ("sd3", "sd15", "wan", *(["flux"] if self.version >= (0, 9) else []))

    def needs(self, family: str) -> None:
        """Skip the test where this ComfyUI does not recognise the tiny model of a family."""
        if family not in self.families:
            pytest.skip("this ComfyUI detects FLUX at its full width only")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return bytes(answer.read())

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def post(self, path: str, content: dict[str, Any]) -> Any:
        request = urllib.request.Request(self.url + path, json.dumps(content).encode())
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            raise RefusedError(error.read().decode()) from error

    def forget(self) -> None:
        """Drop all models and all results that the server keeps between two runs.

        It does so after a run, so one that says nothing comes before the next.
        """
        self.post("/free", {"unload_models": True, "free_memory": True})
        graph = Graph()
        inputs, _ = graph.add("TestInputs", family="sd3")
        graph.add("SaveLatent", samples=(inputs, 2), filename_prefix="forgotten")
        name = self.post("/prompt", {"prompt": graph})["prompt_id"]
        while not self.json(f"/history/{name}"):
            time.sleep(0.02)

    def run(self, graph: Graph, on_progress: Callable[[int], None] = lambda step: None) -> Run:
        """Run a graph to its end. Raises RefusedError."""
        return asyncio.run(asyncio.wait_for(self._run(graph, on_progress), RUN_SECONDS))

    async def _run(self, graph: Graph, on_progress: Callable[[int], None]) -> Run:
        import aiohttp  # ComfyUI brings it

        client = uuid.uuid4().hex
        run = Run("", "")
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{self.url}/ws?clientId={client}") as events:
            await events.receive()  # the first message says that the client is known
            name = self.post("/prompt", {"prompt": graph, "client_id": client})["prompt_id"]
            async for event in events:
                if event.type is not aiohttp.WSMsgType.TEXT:
                    run.previews += 1
                    continue
                message = json.loads(event.data)
                kind, data = message["type"], message["data"]
                if data.get("prompt_id") != name:
                    continue
                if kind == "progress":
                    run.progress.setdefault(data["node"], []).append((data["value"], data["max"]))
                    on_progress(data["value"])
                elif kind in ("execution_success", "execution_error", "execution_interrupted"):
                    run.end, run.error = kind, data.get("exception_message", "")
                    break
        while not (history := self.json(f"/history/{name}")):  # written a moment after the last message
            await asyncio.sleep(0.02)
        run.history = history[name]
        run.outputs = run.history["outputs"]
        return run

    def files(self, run: Run, kind: str) -> list[Path]:
        """Files that the run's nodes show: images, latents."""
        shown = [entry for output in run.outputs.values() for entry in output.get(kind, [])]
        return [self.base / entry["type"] / entry["subfolder"] / entry["filename"] for entry in shown]


@contextlib.contextmanager
def started(checkout: Path, base: Path, *options: str) -> Iterator[Server]:
    """A server that answers, its files under `base`; it stops at the end."""
    custom_nodes = base / "custom_nodes"
    custom_nodes.mkdir(parents=True)
    (custom_nodes / PACK).symlink_to(ROOT)
    (custom_nodes / "testing_nodes").symlink_to(Path(__file__).parent / "testing_nodes")
    (base / "input").mkdir()
    shutil.copy(checkout / "input" / "example.png", base / "input")
    with reserved_port() as port:
        server = Server(checkout, base, port, base / "log.txt")
        command = [sys.executable, "main.py", "--cpu", "--port", str(port), "--base-directory", str(base)]
        own = ["--disable-api-nodes", "--disable-auto-launch", "--database-url", "sqlite:///:memory:"]
        own += ["--preview-method", "latent2rgb", *_page(checkout), *options]
        with server.log.open("w") as log:
            process = subprocess.Popen([*command, *own], cwd=checkout, env=environment(), stdout=log, stderr=log)
        try:
            _wait(server, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            server.get("/system_stats")
            return
        time.sleep(0.1)
    raise RuntimeError(
        f"ComfyUI {version(server.checkout)} did not start; its log ends:\n{server.log.read_text()[-3000:]}"
    )


def _page(checkout: Path) -> list[str]:
    """The frontend that the checkout pins, from a folder frontend-<version> beside it; else the installed one.

    `pip install --no-deps --target frontend-1.35.9 comfyui-frontend-package==1.35.9` makes such a folder.
    """
    pinned = re.search(r"comfyui-frontend-package==(\S+)", (checkout / "requirements.txt").read_text("utf-8"))
    folder = checkout.parent / f"frontend-{pinned.group(1) if pinned else ''}" / "comfyui_frontend_package" / "static"
    return ["--front-end-root", str(folder)] if folder.is_dir() else []
