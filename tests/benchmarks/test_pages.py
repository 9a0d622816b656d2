"""Figures in the tables of the pages come from JSON of the repository."""

import re

import pytest

from benchmarks.__main__ import MEASUREMENTS, STUDIES
from benchmarks.harness import pages, study
from benchmarks.harness.study import Figures

MODULES = STUDIES | MEASUREMENTS
FIGURE = re.compile(r"\d\.\d{3,}|\de-\d")
LINK = re.compile(r"\[[^\]]*\]\([^)]*\)")
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
SHAPE = {"errors": {"adam": {"order 3": {"3": [0.25, 0.5]}}}, "handcrafted": {"3": ["ipndm:2", 1.0]}}
NUMBERS = {"digits": {**SHAPE, "rewritten": [["adam", 3, 0.125, 0.25]]}}
MADE = {
    "date": "2026-01-31",
    "command": "python -m benchmarks ablations --record",
    "versions": {"torch": "9.9"},
    "threads": 2,
    "processor": "a CPU",
    "seeds": [0, 1],
}
PAGE = "before\n<!-- ablations: errors -->\n| old | 0.111 |\n<!-- end -->\nafter\n"


@pytest.fixture
def figures(monkeypatch, tmp_path):
    """An empty place for figures."""
    pages.recorded.cache_clear()
    for module in (study, pages):
        monkeypatch.setattr(module, "FIGURES", tmp_path)
    yield tmp_path
    pages.recorded.cache_clear()


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.name)
def test_the_tables_of_a_page_are_those_of_the_recorded_figures(page):
    text = page.read_text("utf-8")
    assert pages.filled(text, MODULES) == text, "`python -m benchmarks pages` fills it"
    assert {mark["name"] for mark in pages.MARKED.finditer(text)} <= set(MODULES)
    assert text.count("<!-- end -->") == len(pages.MARKED.findall(text)) == len(re.findall(r"<!-- [\w-]+: ", text))


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.name)
def test_a_table_with_measured_figures_is_a_marked_one(page):
    text = page.read_text("utf-8")
    marked = [mark.span() for mark in pages.MARKED.finditer(text)]
    for table in TABLE.finditer(text):
        rows = [row for row in table[0].splitlines() if FIGURE.search(LINK.sub("", row))]
        inside = any(first < table.start() < last for first, last in marked)
        assert inside or len(rows) < 2, f"{rows[0]}: record the table; `python -m benchmarks pages` fills a marked one"


def test_a_marked_table_is_made_of_what_is_recorded_and_says_when_and_how(figures):
    Figures(NUMBERS, {"digits": MADE}).write(figures / "ablations.json")
    text = pages.filled(PAGE, MODULES)
    assert "0.375 (0.25 to 0.5)" in text and "old" not in text
    how = "by `python -m benchmarks ablations --record`, seeds 0, 1, with torch 9.9 on 2 threads of a CPU"
    assert f"*Measured on 2026-01-31 {how}.*" in text
    assert pages.filled(text, MODULES) == text and text.startswith("before\n") and text.endswith("after\n")


def test_without_recorded_figures_a_page_stays_as_it_is(figures):
    assert pages.filled(PAGE, MODULES) == PAGE


@pytest.mark.parametrize("other", ["erors", "without time shifting "])
def test_a_table_that_is_not_recorded_stays_and_is_listed(figures, monkeypatch, capsys, other):
    Figures(NUMBERS, {"digits": MADE}).write(figures / "ablations.json")
    page = figures / "page.md"
    page.write_text(PAGE.replace("errors", other))
    monkeypatch.setattr(pages, "PAGES", (page,))
    monkeypatch.setattr(pages, "ROOT", figures)
    assert pages.main(MODULES, []) == 0
    assert f"page.md: <!-- ablations: {other} --> is not recorded" in capsys.readouterr().out
    assert page.read_text() == PAGE.replace("errors", other)


def test_check_changes_nothing_and_says_what_differs(figures, monkeypatch, capsys):
    Figures(NUMBERS, {"digits": MADE}).write(figures / "ablations.json")
    (figures / "page.md").write_text(PAGE)
    monkeypatch.setattr(pages, "PAGES", (figures / "page.md",))
    monkeypatch.setattr(pages, "ROOT", figures)
    assert [pages.main(MODULES, given) for given in (["--check"], [], ["--check"])] == [1, 0, 0]
    assert capsys.readouterr().out == "page.md: differs from benchmarks/figures\npage.md: filled\n"
