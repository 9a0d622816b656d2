"""A benchmark: its command line, its run part by part, and its recorded figures."""

import argparse
import datetime
import json
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import dyweight
from dyweight.files import write_whole
from trainer.run.table import table

from .bench import ROOT

FIGURES, PICTURES = ROOT / "benchmarks" / "figures", ROOT / "docs" / "images"
"""The folders for `--record`: of the numbers, and of the pictures that the pages show."""
DIGITS = 6
"""Significant digits of a recorded number."""
Numbers = Mapping[str, Any]
"""Part -> its measurements as JSON values, so that every key is a text."""
Tables = Mapping[str, str]
"""Name -> a table in Markdown."""


@dataclass(frozen=True)
class Options:
    """The options of every benchmark."""

    quick: bool
    seeds: tuple[int, ...]
    models: tuple[str, ...]
    more: argparse.Namespace
    """This benchmark's other options."""


@dataclass
class Figures:
    """A benchmark's numbers, and how each part was measured."""

    numbers: dict[str, Any] = field(default_factory=dict)
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Part -> date, command, versions, threads, seeds, seconds."""

    @classmethod
    def read(cls, path: Path) -> "Figures":
        """The figures in a file; empty if there is no file."""
        return cls(**json.loads(path.read_text("utf-8"))) if path.is_file() else cls()

    def write(self, path: Path) -> None:
        text = json.dumps({"made": self.made, "numbers": self.numbers}, indent=1)
        # Lists of plain values go on one line.
        text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda found: "[" + " ".join(found[1].split()) + "]", text)
        write_whole(path, f"{text}\n".encode())

    def source(self, name: str) -> str:
        """When and how it was measured: the part that a table's name begins with, those that begin with it, or all."""
        parts = (part for part in self.made if f"{name}, ".startswith(f"{part}, ") or part.startswith(f"{name}, "))
        own = [self.made[part] for part in parts]
        return "\n".join(dict.fromkeys(map(_source, own or self.made.values())))


def _source(made: Mapping[str, Any]) -> str:
    seeds, threads = made["seeds"], made["threads"]
    drawn = f", seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if seeds else ""
    machine = f"torch {made['versions']['torch']} on {threads} thread{'s' * (threads > 1)} of {made['processor']}"
    return f"*Measured on {made['date']} by `{made['command']}`{drawn}, with {machine}.*"


@dataclass(frozen=True)
class Study:
    """A benchmark; `main` is its command."""

    name: str
    """Its name for `python -m benchmarks`, and that of the file with its figures."""
    description: str | None
    measure: Callable[[Options], Iterator[tuple[str, Any]]]
    """Yields the name and the numbers of each part as soon as it is measured. Parts recorded earlier are kept."""
    tables: Callable[[Numbers], Tables]
    """The tables of the parts that are given, for the terminal and the pages."""
    draw: Callable[[Numbers, Path], None] | None = None
    """Draws the numbers into a folder."""
    models: Sequence[str] = ()
    """The default models; empty where there is no choice."""
    quick_models: Sequence[str] = ()
    """The default models with `--quick`, if they differ."""
    seeds: int = 3
    """The default number of seeds; 0 where nothing is random."""
    add_options: Callable[[argparse.ArgumentParser], object] = lambda parser: None
    passes: Callable[[Numbers], bool] = lambda numbers: True
    """Whether the numbers are within the limits, which decides the exit status."""

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """The command line; returns the exit status."""
        given, options = self._parse(arguments)
        file = FIGURES / f"{self.name}.json" if given.record else given.out and given.out / f"{self.name}.json"
        kept, measured = Figures(), dict[str, Any]()
        began = last = time.monotonic()
        for part, numbers in self.measure(options):
            if file is not None:
                kept = Figures.read(file)  # again, since another run may have recorded other parts meanwhile
            measured[part] = kept.numbers[part] = as_json(numbers)
            last, before = time.monotonic(), last
            kept.made[part] = made(self.name, arguments, options.seeds, last - before)
            for name, text in self.tables({part: measured[part]}).items():
                print(f"\n{name}\n\n{text}", flush=True)
            if file is not None:
                kept.write(file)
        print(f"\n{time.monotonic() - began:.0f} s, torch {torch.__version__}, {torch.get_num_threads()} threads")
        if self.draw is not None and file is not None and kept.numbers:
            self._draw(kept.numbers, given.out)
        return int(not self.passes(measured))

    def _parse(self, arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Options]:
        parser = argparse.ArgumentParser(
            prog=f"python -m benchmarks {self.name}",
            description=self.description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("--quick", action="store_true", help="run a little of everything, to see that it runs")
        where = parser.add_mutually_exclusive_group()
        where.add_argument("--out", type=Path, help="folder for the figures and the pictures")
        where.add_argument("--record", action="store_true", help="record both in the repository, for its pages")
        if self.seeds:
            default_seeds = f"seeds; by default 0 to {self.seeds - 1}, with --quick 0"
            parser.add_argument("--seeds", type=int, nargs="+", help=default_seeds)
        if self.models:
            parser.add_argument("--models", nargs="+", help=f"models; by default {' '.join(self.models)}")
        self.add_options(parser)
        given = parser.parse_args(arguments)
        if given.quick and given.record:
            parser.error("--record is for the pages, for which the figures of --quick are too rough: leave one out")
        seeds = self.seeds and (given.seeds or ([0] if given.quick else range(self.seeds)))
        default = self.quick_models if given.quick and self.quick_models else self.models
        models = (self.models and given.models) or default
        return given, Options(given.quick, tuple(seeds or ()), tuple(models), given)

    def _draw(self, numbers: Numbers, out: Path | None) -> None:
        """Draw all pictures into a folder, or copy those that the pages show into the repository."""
        assert self.draw is not None
        if out is not None:
            self.draw(numbers, out)
            return
        with tempfile.TemporaryDirectory() as folder:
            self.draw(numbers, Path(folder))
            for picture in Path(folder).iterdir():
                if (PICTURES / picture.name).is_file():
                    shutil.copy(picture, PICTURES)


def made(name: str, arguments: Sequence[str] | None, seeds: Sequence[int], seconds: float) -> dict[str, Any]:
    """How a part was measured."""
    given = sys.argv[1:] if arguments is None else arguments
    return {
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "command": shlex.join(["python", "-m", "benchmarks", name, *given]),
        "versions": {
            "dyweight": dyweight.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "threads": torch.get_num_threads(),
        "processor": torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU",
        "seeds": list(seeds),
        "seconds": round(seconds, 1),
    }


def _commit() -> str | None:
    """The commit of the repository, with a + if files differ from it."""
    try:
        asked = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
        return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def as_json(value: Any) -> Any:
    """The value as JSON would return it, with floats rounded to DIGITS significant digits."""
    return json.loads(json.dumps(value), parse_float=lambda text: float(f"{float(text):.{DIGITS}g}"))


def significant(values: Iterable[float | None]) -> str:
    """`mean (smallest to largest)` with three significant digits; None stands for a missing value."""
    given = list(values)
    finite = [value for value in given if value is not None]
    if not finite:
        return "none"
    text = f"{statistics.mean(finite):.3g}"
    if len(given) > 1:
        text += f" ({min(finite):.3g} to {max(finite):.3g})"
    return text if len(finite) == len(given) else f"{text}, {len(given) - len(finite)} without"


def best(handcrafted: Mapping[str, float]) -> tuple[str, float]:
    """The handcrafted solver with the smallest error, and that error."""
    return min(handcrafted.items(), key=lambda item: item[1])


__all__ = ["Figures", "Numbers", "Options", "Study", "Tables", "as_json", "best", "significant", "table"]
