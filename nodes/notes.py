"""What the pack tells its user: a line in ComfyUI's log, and the same on the page of whoever started the run.

The sentences stand in messages.py. web/notes.js shows them, in the page's language; a page without it shows none.
"""

import logging
import sys
from contextvars import ContextVar
from typing import Any

from comfy_execution.utils import get_executing_context

EVENT, LINES = "dyweight.note", "dyweight.fit"
_log = logging.getLogger("DyWeight")
_asking: ContextVar[str | None] = ContextVar("asking", default=None)
"""The page whose workflow the server is checking, before it runs."""
_said: set[tuple[str | None, str]] = set()
"""(run, sentence), of the latest run only."""


class Sentence:
    """A sentence with values for its {fields}, which may be sentences too: the page translates it with its parts."""

    def __init__(self, message: str, **values: object) -> None:
        self.message, self.values = message, values

    def __str__(self) -> str:
        return self.message.format(**self.values) if self.values else self.message

    def parts(self) -> dict[str, Any]:
        """For the page."""
        values = {name: one.parts() if isinstance(one, Sentence) else str(one) for name, one in self.values.items()}
        return {"message": self.message, "values": values}


def register() -> None:
    """Learn which page a workflow comes from; safe to call again, and without a server."""
    handlers = getattr(_server(), "on_prompt_handlers", [_remember_page])
    if _remember_page not in handlers:
        handlers.append(_remember_page)


def info(message: str, **values: object) -> None:
    """A line in the log, and nothing on the page: all is as it should be."""
    _log.info("DyWeight: %s", message.format(**values))


def warn(message: str, **values: object) -> None:
    """Say once in each run what its user may want to change."""
    run, text = _run(), message.format(**values)
    if (run, text) in _said:
        return
    _said.difference_update({said for said in _said if said[0] != run})
    _said.add((run, text))
    _log.warning("DyWeight: %s", text)
    _send("warn", message, values)


def text(lines: Sentence, node: str) -> None:
    """Show lines on a node of the page, which web/fit.js does; the log has them too."""
    _log.info("DyWeight: %s", lines)
    server = _server()
    if (page := getattr(server, "client_id", None)) is not None:
        place = {**_workflow(server), "node": node}
        server.send_sync(LINES, {**place, "text": str(lines), **lines.parts()}, page)


def refusal(message: str, **values: object) -> ValueError:
    """The error to raise; the page shows its sentence too. ComfyUI itself logs it.

    A plain ValueError: before any other class ComfyUI shows its module and name, and the sentence is cut off.
    """
    _send("error", message, values)
    return ValueError(message.format(**values))


def _run() -> str | None:
    executing = get_executing_context()
    return executing.prompt_id if executing else None


def _workflow(server: Any) -> dict[str, str]:
    """Which workflow of the page runs, since another one may be open by now; empty where none is named: those that the
    page reads from the API's format have the id 0."""
    queue = getattr(server, "prompt_queue", None)
    running, _ = queue.get_current_queue_volatile() if queue else ([], [])
    extra: Any = next((extra for _, run, _, extra, *_ in running if run == _run()), {})
    workflow = (extra.get("extra_pnginfo") or {}).get("workflow") or {}
    return {"workflow": workflow["id"]} if str(workflow.get("id", "")).strip("0-") else {}


def _server() -> Any:
    """ComfyUI's server; None where there is none, as in a script."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def _remember_page(request: dict[str, Any]) -> dict[str, Any]:
    _asking.set(request.get("client_id"))
    return request


def _send(level: str, message: str, values: dict[str, Any]) -> None:
    server, run = _server(), _run()
    page = _asking.get() or getattr(server, "client_id", None)
    if page is not None and run is not None:
        server.send_sync(EVENT, {"run": run, "level": level, **Sentence(message, **values).parts()}, page)
