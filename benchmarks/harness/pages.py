"""Fill the tables of the pages with the figures that benchmarks recorded: `python -m benchmarks pages`.

A table stands between `<!-- NAME: TABLE -->` and `<!-- end -->`, where NAME is a benchmark and TABLE one of its tables.
Where benchmarks/figures has no NAME.json yet, the page is left as it is, and says itself from when its figures are.
"""

import argparse
import importlib
import re
from collections.abc import Mapping, Sequence
from functools import cache

from dyweight.solver_file import write_whole

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
        if new != text:
            differing += 1
            print(f"{page.relative_to(ROOT)}: {'differs from benchmarks/figures' if check else 'filled'}")
            if not check:
                write_whole(page, new.encode())
    return int(check and differing > 0)


def filled(text: str, modules: Mapping[str, str]) -> str:
    """A page with the tables that are recorded. Raises KeyError for a mark that names none."""

    def content(mark: re.Match[str]) -> str:
        name, table = mark["name"], mark["table"]
        found = recorded(name, modules[name])
        if found is None:
            return mark[0]
        figures, tables = found
        if table not in tables:
            raise KeyError(f"<!-- {name}: {table} -->: the tables of {name} are {', '.join(tables)}")
        return f"{mark[1]}{tables[table]}\n\n{figures.source(table)}\n{mark[5]}"

    return MARKED.sub(content, text)


@cache
def recorded(name: str, module: str) -> tuple[Figures, Tables] | None:
    """What is kept of a benchmark and its tables; None where nothing is."""
    figures = Figures.read(FIGURES / f"{name}.json")
    study: Study = importlib.import_module(module).STUDY
    return (figures, study.tables(figures.numbers)) if figures.numbers else None
