"""Help pages and translations say what the nodes say. The schemas are read from the source: no ComfyUI is needed."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
LANGUAGES = ("en", "zh")


def schemas() -> dict[str, dict[str, Any]]:
    """Of each node its texts, in the layout of nodeDefs.json."""
    trees = [ast.parse(path.read_text("utf-8")) for path in sorted((ROOT / "nodes").glob("*.py"))]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found = {}
    for call in calls:
        fields = {keyword.arg: keyword.value for keyword in call.keywords}
        if ast.unparse(call.func) == "schema" and "node_id" in fields:
            found[ast.literal_eval(fields["node_id"])] = {
                "display_name": ast.literal_eval(fields["display_name"]),
                "description": ast.literal_eval(fields["description"]),
                "inputs": dict(slot(node) for node in fields["inputs"].elts),
                "outputs": {str(i): slot(node)[1] for i, node in enumerate(fields["outputs"].elts)},
            }
    return found


def slot(call: ast.Call) -> tuple[str, dict[str, str]]:
    """(id, texts) of `io.Model.Input("model", tooltip=...)`; an output without an id is called after its type."""
    said = [keyword for keyword in call.keywords if keyword.arg in ("display_name", "tooltip")]
    texts = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in said}
    name = ast.literal_eval(call.args[0]) if call.args else ast.unparse(call.func).split(".")[1].upper()
    return name, {"name": texts.get("display_name", name), "tooltip": texts["tooltip"]}


NODES = schemas()


def translation(language: str, file: str = "nodeDefs") -> dict[str, Any]:
    return json.loads((ROOT / "locales" / language / f"{file}.json").read_text("utf-8"))


def texts(entry: Any, path: str = "") -> dict[str, str]:
    """Every text by its path, such as DyWeightApply.inputs.model.tooltip."""
    if isinstance(entry, dict):
        return {key: text for name, part in entry.items() for key, text in texts(part, f"{path}.{name}").items()}
    return {path.lstrip("."): entry}


def test_the_source_has_these_nodes():
    names = ("KSampler", "LoadSolver", "Sampler", "Scheduler", "Apply", "Plot", "SaveSolver", "Fit", "Prompts")
    assert set(NODES) == {f"DyWeight{name}" for name in names}


def test_the_english_texts_are_those_of_the_nodes():
    assert texts(translation("en")) == texts(NODES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_text_has_a_translation_and_there_is_none_too_many(language):
    here = texts(translation(language))
    assert set(here) == set(texts(NODES))
    assert all(isinstance(text, str) and text.strip() for text in here.values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_category_and_link_type_have_names(language):
    main = translation(language, "main")
    assert {part: list(names) for part, names in main.items()} == {
        "nodeCategories": ["DyWeight"],
        "dataTypes": ["DYWEIGHT_SOLVER"],
    }


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("file", ["nodeDefs", "main"])
def test_no_text_has_a_character_that_the_browser_takes_for_a_placeholder(language, file):
    assert [text for text in texts(translation(language, file)).values() if re.search(r"[@{}|]", text)] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_setting_of_the_page_has_its_texts(language):
    script = (ROOT / "web" / "notes.js").read_text("utf-8")
    (texts_of_setting,) = translation(language, "settings").values()
    assert set(texts_of_setting) == {"name", "tooltip"}
    if language == "en":
        assert all(f'"{text}"' in script for text in texts_of_setting.values())


def test_chinese_texts_are_chinese():
    assert [path for path, text in texts(translation("zh")).items() if not re.search(r"[\u4e00-\u9fff]", text)] == []


def page(node: str, language: str) -> Path:
    """Where ComfyUI looks: <node>/<language>.md, and <node>.md where that is not."""
    return ROOT / "web" / "docs" / (f"{node}.md" if language == "en" else f"{node}/{language}.md")


def test_web_holds_the_help_pages_what_the_page_says_and_nothing_else():
    pages = {page(node, language) for node in NODES for language in LANGUAGES}
    pages |= {
        ROOT / "web" / "language.js",
        ROOT / "web" / "notes.js",
        ROOT / "web" / "nodes.js",
        ROOT / "web" / "fit.js",
        *(ROOT / "web" / "messages").glob("*.json"),
    }
    assert {path for path in (ROOT / "web").rglob("*") if path.is_file()} == pages


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("node", NODES)
def test_a_help_page_has_the_name_and_a_row_for_each_input_and_output(node, language):
    here, source = translation(language)[node], NODES[node]
    text = page(node, language).read_text("utf-8")
    assert text.startswith(f"# {here['display_name']}\n")
    named = [(name, here["inputs"][name]["name"]) for name in source["inputs"]]
    named += [(output["name"], here["outputs"][i]["name"]) for i, output in source["outputs"].items()]
    cells = [f"`{name}`" if name == shown else f"`{name}` {shown}" for name, shown in named]
    assert re.findall(r"^\| (`\w+`.*?) \|", text, re.MULTILINE) == cells


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("node", NODES)
def test_the_tables_of_a_help_page_are_whole(node, language):
    tables = re.findall(r"(?:^\|.*\n?)+", page(node, language).read_text("utf-8"), re.MULTILINE)
    assert len(tables) >= 3
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1, table
