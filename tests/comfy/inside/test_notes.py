"""What the pack tells its user: in the log, and on the page that started the run, once in each run."""

import importlib
import sys
from types import SimpleNamespace

import pytest

MESSAGE = "Set cfg to {there}: {file} was made with it, not with {here}."
VALUES = {"there": 1, "file": "mine", "here": 3.5}
TEXT = "Set cfg to 1: mine was made with it, not with 3.5."


@pytest.fixture
def notes(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.notes")


@pytest.fixture
def server(monkeypatch):
    """A server whose page is `me`, and what it sent."""
    sent = []
    instance = SimpleNamespace(client_id="me", on_prompt_handlers=[], send_sync=lambda *event: sent.append(event))
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=instance)))
    return SimpleNamespace(instance=instance, sent=sent)


def running(name):
    from comfy_execution.utils import CurrentNodeContext

    return CurrentNodeContext(name, "7")


def test_without_a_server_it_is_in_the_log_under_the_packs_name(notes, monkeypatch, caplog):
    monkeypatch.delitem(sys.modules, "server", raising=False)
    notes.register()
    with running("one"):
        notes.warn(MESSAGE, **VALUES)
        assert str(notes.refusal(MESSAGE, **VALUES)) == TEXT
    assert caplog.messages == [f"DyWeight: {TEXT}"]


def test_it_is_said_once_in_a_run_and_again_in_the_next(notes, server, caplog):
    for run in ("one", "one", "two", "one"):
        with running(run):
            notes.warn(MESSAGE, **VALUES)
    assert [event[1]["run"] for event in server.sent] == ["one", "two", "one"]
    assert caplog.messages == [f"DyWeight: {TEXT}"] * 3


def test_the_page_gets_sentence_and_values_apart_for_its_language(notes, server):
    with running("one"):
        notes.warn(MESSAGE, **VALUES)
        notes.info(MESSAGE, **VALUES)
    values = {"there": "1", "file": "mine", "here": "3.5"}
    event = {"run": "one", "level": "warn", "message": MESSAGE, "values": values}
    assert server.sent == [("dyweight.note", event, "me")]


def test_a_sentence_in_a_sentence_comes_with_its_parts(notes, server):
    inner = notes.Sentence("about {number} s", number=5)
    assert str(inner) == "about 5 s" and str(notes.Sentence("as {it} is")) == "as {it} is"
    with running("one"):
        assert str(notes.refusal("Wait {time}.", time=inner)) == "Wait about 5 s."
        notes.text(notes.Sentence("{time} left", time=inner), "7")
    parts = {"time": {"message": "about {number} s", "values": {"number": "5"}}}
    (_, refused, _), (name, shown, page) = server.sent
    assert (refused["message"], refused["values"]) == ("Wait {time}.", parts)
    assert (name, page) == ("dyweight.fit", "me")
    assert shown == {"node": "7", "text": "about 5 s left", "message": "{time} left", "values": parts}


def test_a_refusal_is_an_error_of_no_module_and_is_shown_too(notes, server):
    with running("one"):
        error = notes.refusal(MESSAGE, **VALUES)
    assert type(error) is ValueError and str(error) == TEXT
    assert [event[1]["level"] for event in server.sent] == ["error"]


def test_a_workflow_of_no_page_and_one_outside_a_run_send_nothing(notes, server):
    notes.warn(MESSAGE, **VALUES)
    server.instance.client_id = None
    with running("one"):
        notes.warn(MESSAGE, **VALUES)
    assert server.sent == []


def test_while_a_workflow_is_checked_its_own_page_hears_of_it(notes, server):
    import contextvars

    notes.register()
    notes.register()
    (handler,) = server.instance.on_prompt_handlers

    def check():
        assert handler({"client_id": "other", "prompt": {}}) == {"client_id": "other", "prompt": {}}
        with running("not yet"):
            notes.refusal(MESSAGE, **VALUES)

    contextvars.copy_context().run(check)
    assert [event[2] for event in server.sent] == ["other"]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"id": "1a2b3c4d-0000-4000-8000-000000000001"}, {"workflow": "1a2b3c4d-0000-4000-8000-000000000001"}),
        ({"id": "00000000-0000-0000-0000-000000000000"}, {}),
        ({}, {}),
    ],
)
def test_lines_on_a_node_name_the_workflow_that_runs(notes, server, given, named):
    """But not by the id that all have which the page reads from the API's format."""
    running_now = [(0, "one", {}, {"extra_pnginfo": {"workflow": given}}, [])]
    server.instance.prompt_queue = SimpleNamespace(get_current_queue_volatile=lambda: (running_now, []))
    with running("one"):
        notes.text(notes.Sentence(MESSAGE, **VALUES), "7")
    ((_, sent, page),) = server.sent
    assert page == "me" and {key: sent[key] for key in sent if key == "workflow"} == named
