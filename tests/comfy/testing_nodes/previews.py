"""Samplers that wait, once a test asks for it, until it has seen their preview on the page."""

import threading
from typing import Any

import latent_preview
from aiohttp import web
from server import PromptServer

LIMIT = 120
"""Seconds after which a sampler goes on unseen."""
_prepare = latent_preview.prepare_callback


class _Held:
    asked = False
    node: str | None = None
    """Whose last step waits."""
    seen = threading.Event()


def prepare_callback(*args: Any) -> Any:
    """ComfyUI's, which sends the preview; the last step then waits."""
    show = _prepare(*args)

    def callback(step: int, x0: Any, x: Any, total: int) -> None:
        show(step, x0, x, total)
        if _Held.asked and step + 1 == total:
            _Held.seen.clear()
            _Held.node = PromptServer.instance.last_node_id
            _Held.seen.wait(LIMIT)

    return callback


async def waiting(request: web.Request) -> web.Response:
    return web.json_response({"node": _Held.node})


async def go_on(request: web.Request) -> web.Response:
    """hold: whether the next ones wait too."""
    _Held.asked, _Held.node = (await request.json())["hold"], None
    _Held.seen.set()
    return web.json_response({})


latent_preview.prepare_callback = prepare_callback
PromptServer.instance.routes.get("/testing/preview")(waiting)
PromptServer.instance.routes.post("/testing/preview")(go_on)
