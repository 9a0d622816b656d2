"""`python -m benchmarks` lists the studies and measurements; `python -m benchmarks NAME ...` runs one."""

import ast
import importlib
import importlib.util
import sys
import textwrap
from collections.abc import Mapping, Sequence

from benchmarks.harness import pages
from dyweight.suggest import did_you_mean

STUDIES = {
    name: f"benchmarks.studies.{name.replace('-', '_')}"
    for name in (
        "numerical",
        "time-shifting",
        "ablations",
        "initialisation",
        "supervision",
        "teachers",
        "transfer",
        "rivals",
        "photographs",
    )
}
"""Those of the DyWeight paper."""
MEASUREMENTS = {
    **{
        name: f"benchmarks.measurements.{name.replace('-', '_')}"
        for name in (
            "fit-methods",
            "instance-aware",
            "schedule-rules",
            "untrained",
            "between-steps",
            "guidance",
            "fit-sets",
            "sizes",
            "two-experts",
            "same-model",
            "phi-cost",
            "fit-memory",
            "fit-cost",
            "two-processes",
            "overhead",
            "comfy-overhead",
            "real-size",
        )
    },
    "tree": "benchmarks.tree.__main__",
}
PAGES = "benchmarks.harness.pages"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given or given[0] in ("-h", "--help"):
        print(listing())
        return 0
    known = STUDIES | MEASUREMENTS
    if given[0] == "pages":
        return pages.main(known, given[1:])
    if given[0] not in known:
        hint = did_you_mean(given[0], [*known, "pages"])
        print(f"{given[0]}: {hint}`python -m benchmarks` lists them", file=sys.stderr)
        return 2
    status: int = importlib.import_module(known[given[0]]).STUDY.main(given[1:])
    return status


def listing() -> str:
    """All benchmarks, each with the first paragraph of its docstring."""
    parts = ["python -m benchmarks NAME [--help]; all take --quick, and --out FOLDER or --record"]
    groups = (("Studies of the DyWeight paper", STUDIES), ("Measurements", MEASUREMENTS), ("Pages", {"pages": PAGES}))
    for title, names in groups:
        parts += ["", title, *_lines(names)]
    return "\n".join(parts)


def _lines(modules: Mapping[str, str]) -> list[str]:
    width = max(map(len, STUDIES | MEASUREMENTS)) + 4
    return [
        textwrap.fill(_summary(module), 100, initial_indent=f"  {name:<{width - 2}}", subsequent_indent=" " * width)
        for name, module in modules.items()
    ]


def _summary(module: str) -> str:
    """The first paragraph of a module's docstring, without importing it."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    with open(spec.origin, encoding="utf-8") as file:
        text = ast.get_docstring(ast.parse(file.read())) or ""
    return " ".join(text.partition("\n\n")[0].split())


if __name__ == "__main__":
    sys.exit(main())
