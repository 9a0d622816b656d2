"""What a server tells of a run, and the wait for what it saves when it is cancelled."""

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from trainer.run.errors import TrainerError
from trainer.workflow import server

aiohttp = pytest.importorskip("aiohttp", reason="ComfyUI brings it")


def events(*messages: dict[str, Any]) -> Any:
    """As aiohttp's websocket gives them."""

    async def sent() -> AsyncIterator[Any]:
        for message in messages:
            yield SimpleNamespace(type=aiohttp.WSMsgType.TEXT, data=json.dumps(message))

    return sent()


LINE = {"type": "dyweight.fit", "data": {"text": "a line"}}
SUCCESS = {"type": "execution_success", "data": {"prompt_id": "1"}}


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_an_event_of_another_pack_may_hold_anything(data: Any) -> None:
    told = list[str]()
    asyncio.run(server._end(events({"type": "other", "data": data}, {"type": "bare"}, LINE, SUCCESS), "1", told.append))
    assert told == ["a line"]


def test_the_end_of_another_run_is_not_its_own() -> None:
    failed = {"type": "execution_error", "data": {"prompt_id": "1", "exception_message": "no room"}}
    with pytest.raises(TrainerError, match="no room"):
        asyncio.run(server._end(events({**SUCCESS, "data": {"prompt_id": "2"}}, failed), "1", str))
    with pytest.raises(ConnectionError):
        asyncio.run(server._end(events({**SUCCESS, "data": {"prompt_id": "2"}}), "1", str))


def test_after_a_cancel_it_waits_for_the_server_to_save(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    def answer(url: str) -> str:
        asked.append(url)
        return json.dumps({"queue_running": [[0, "1", {}]] if len(asked) < 3 else []})

    monkeypatch.setattr(server, "_get", answer)
    asyncio.run(server._saved("http://somewhere", "1"))
    assert asked == ["http://somewhere/queue"] * 3
