"""Fill the tables of the pages with recorded figures: `python -m benchmarks pages`.

A table stands between `<!-- NAME: TABLE -->` and `<!-- end -->`, where NAME is a benchmark and TABLE one of its tables.
Tables that benchmarks/figures/NAME.json does not hold yet are listed and left as they are.
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
    parser.add_argument("--check", action="store_true", help="change nothing; exit with status 1 if a page differs")
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
    """A page with all recorded tables filled in. Raises KeyError for a mark that names no benchmark."""

    def content(mark: re.Match[str]) -> str:
        name, table = mark["name"], mark["table"]
        figures, tables = recorded(name, modules[name])
        if table not in tables:
            return mark[0]
        return f"{mark[1]}{tables[table]}\n\n{figures.source(table)}\n{mark[5]}"

    return MARKED.sub(content, text)


@cache
def recorded(name: str, module: str) -> tuple[Figures, Tables]:
    """The recorded figures of a benchmark and their tables; both are empty where nothing is recorded."""
    figures = Figures.read(FIGURES / f"{name}.json")
    study: Study = importlib.import_module(module).STUDY
    return figures, study.tables(figures.numbers) if figures.numbers else {}
