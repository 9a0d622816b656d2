"""Fill the tables of the pages with the figures that benchmarks recorded: `python -m benchmarks pages`.

A table stands between `<!-- NAME: TABLE -->` and `<!-- end -->`, where NAME is a benchmark and TABLE one of its tables.
What benchmarks/figures/NAME.json does not have yet is listed and stays as it is, with a line that says from when it is.
"""

import argparse
import importlib
import re
from collections.abc import Mapping, Sequence
from functools import cache

from dyweight.files import write_whole

from .bench import ROOT
from .study import FIGURES, Figures, Study, Tables

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
MARKED = re.compile(r"(<!-- (?P<name>[\w-]+): (?P<table>[^>]+) -->\n)(?P<content>.*?)(<!-- end -->)", re.DOTALL)


def main(modules: Mapping[str, str], arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status. modules: benchmark -> where its `STUDY` is."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks pages", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; the exit status is 1 where a page differs"
    )
    check, differing = parser.parse_args(arguments).check, 0
    for page in PAGES:
        text = page.read_text("utf-8")
        new = filled(text, modules)
        for mark in MARKED.finditer(text):
            if mark["table"] not in recorded(mark["name"], modules[mark["name"]])[1]:
                print(f"{page.relative_to(ROOT)}: <!-- {mark['name']}: {mark['table']} --> is not recorded")
        if new != text:
            differing += 1
            print(f"{page.relative_to(ROOT)}: {'differs from benchmarks/figures' if check else 'filled'}")
            if not check:
                write_whole(page, new.encode())
    return int(check and differing > 0)


def filled(text: str, modules: Mapping[str, str]) -> str:
    """A page with the tables that are recorded; the others stay. Raises KeyError for a mark that names no benchmark."""

    def content(mark: re.Match[str]) -> str:
        name, table = mark["name"], mark["table"]
        figures, tables = recorded(name, modules[name])
        if table not in tables:
            return mark[0]
        return f"{mark[1]}{tables[table]}\n\n{figures.source(table)}\n{mark[5]}"

    return MARKED.sub(content, text)


@cache
def recorded(name: str, module: str) -> tuple[Figures, Tables]:
    """What is kept of a benchmark and its tables; neither where nothing is."""
    figures = Figures.read(FIGURES / f"{name}.json")
    study: Study = importlib.import_module(module).STUDY
    return figures, study.tables(figures.numbers) if figures.numbers else {}
