"""What the pack says to its user: in each language, explained in the guide, and none said by nobody."""

import ast
import json
import re
from pathlib import Path

import pytest

from trainer.run.timing import duration_in_words

ROOT = Path(__file__).parents[1]
LANGUAGES = sorted(path.stem for path in (ROOT / "web" / "messages").glob("*.json"))
FIELD = re.compile(r"\{\w+\}")


def constants(file: str) -> dict[str, str]:
    """Name -> sentence, of a file of the nodes."""
    tree = ast.parse((ROOT / "nodes" / file).read_text("utf-8"))
    return {node.targets[0].id: ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)}


def parsed(*rooms: str) -> list[ast.AST]:
    files = (path for room in rooms for path in (ROOT / room).rglob("*.py"))
    return [node for path in files for node in ast.walk(ast.parse(path.read_text("utf-8")))]


def reasons() -> set[str]:
    """What the trainer refuses, where the values stand apart, as Fit Solver says it."""
    calls = [node for node in parsed("trainer") if isinstance(node, ast.Call) and node.args and node.keywords]
    errors = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id.endswith("Error")]
    return {ast.literal_eval(call.args[0]).removeprefix("--ckpt ") for call in errors}


MESSAGES, LINES = constants("messages.py"), constants("fit_lines.py")


def test_a_sentence_begins_with_what_to_do():
    verbs = "Set|Choose|Remove|Move|Give|Use|Connect|Check|Make"
    exceptions = {"CANT_RUN"}  # its reason is the core's
    assert [name for name, text in MESSAGES.items() if not re.match(verbs, text)] == list(exceptions)


def test_every_sentence_is_said_somewhere():
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "nodes").glob("*.py"))
    assert [name for name in MESSAGES if not re.search(rf"messages\.{name}\b", sources)] == []
    assert [name for name in LINES if not re.search(rf"fit_lines\.{name}\b", sources)] == []


def test_the_script_of_the_page_knows_the_languages_that_there_are():
    script = (ROOT / "web" / "language.js").read_text("utf-8")
    assert f"const LANGUAGES = {json.dumps(LANGUAGES)}" in script


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_sentence_is_translated_with_all_its_values(language):
    texts = json.loads((ROOT / "web" / "messages" / f"{language}.json").read_text("utf-8"))
    times = {duration_in_words(seconds)[0] for seconds in (1, 1_000, 100_000)}
    needed = {*MESSAGES.values(), *LINES.values(), *reasons(), *times}
    assert needed - set(texts) == set()
    said = {node.value for node in parsed("nodes", "trainer") if isinstance(node, ast.Constant)}
    assert set(texts) - needed - said == set(), "said by nobody"
    assert [text for text, said in texts.items() if set(FIELD.findall(text)) != set(FIELD.findall(said))] == []


def test_the_guide_explains_each_sentence():
    guide = " ".join((ROOT / "docs" / "comfyui.md").read_text("utf-8").split())
    beginnings = {name: re.match(r".*?(\.\.\.|:)", FIELD.sub("...", text))[0] for name, text in MESSAGES.items()}
    assert [name for name, text in beginnings.items() if f"`{text}" not in guide] == []
