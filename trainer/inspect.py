"""`python -m trainer.inspect FILE [--picture OUT.png]`: what a coefficient file is, in words, numbers and a picture."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from dyweight import Solver, SolverFile
from dyweight.files import write_whole
from dyweight.picture import png

from .run.command import run

MOST_COLUMNS = 8
"""Of one tensor, in the table of the steps."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.inspect", description=__doc__)
    parser.add_argument("file", type=Path, help="the coefficient file to describe")
    parser.add_argument("--picture", type=Path, metavar="OUT.png", help="where to draw its coefficients")
    options = parser.parse_args(arguments)
    return run(lambda: inspect(options.file, options.picture))


def inspect(file: Path, picture: Path | None = None) -> None:
    """Print what the file is, and draw it. Raises SolverFileError for what can't be read."""
    found = SolverFile.read(file)
    print(description(found))
    if picture:
        write_whole(picture, png(found))
        print(f"wrote {picture}")


def description(file: SolverFile) -> str:
    """Family, settings, errors, provenance and the numbers of each step. Null fields of the provenance are left out."""
    solver = file.solver
    facts = {"family": solver.family, "steps": solver.steps, "network calls": solver.network_calls, **solver.settings()}
    del facts["sigmas"]  # a column of the table
    given = {name: value for name, value in file.provenance.items() if value is not None}
    errors = {name: given.pop(name) for name in list(given) if "error" in name}
    sections = {str(file.path): facts, "errors": errors, "made for and by": given}
    width = max(map(len, (*facts, *errors, *given)))
    lines = []
    for title, fields in sections.items():
        lines += [title if fields else f"{title}: none given"]
        lines += [*(f"  {name:<{width}}  {_shown(value)}" for name, value in fields.items()), ""]
    printable = ("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line) for line in lines)
    return "\n".join([*printable, *_steps(solver)])


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _steps(solver: Solver) -> list[str]:
    """A line for each step: its noise level, and what the file has for it."""
    columns = {"sigma": solver.sigmas[:-1]}
    if not solver.reads_samples:
        plan = solver.plan()
        columns |= {"shifted": plan.sigmas[:-1], "asked at": plan.query_sigmas}
    columns |= {name: tensor for name, tensor in solver.tensors().items() if "." not in name}
    header, rows = "step", [f"{n:>4}" for n in range(solver.steps)]
    for name, values in columns.items():
        if len(values) == solver.steps:  # not one for each network call, of a solver that asks twice a step
            numbers = values.detach().cpu().reshape(solver.steps, -1)
            title = name if numbers.shape[1] <= MOST_COLUMNS else f"{name} ..."
            numbers, width = numbers[:, :MOST_COLUMNS], max(10, len(title)) + 1
            header += title.rjust(width).ljust(width * numbers.shape[1])
            rows = [
                row + "".join(f"{n:>{width}.5g}" for n in own) for row, own in zip(rows, numbers.tolist(), strict=True)
            ]
    return [header.rstrip(), *rows, f"at the end the noise level is {solver.sigmas[-1]:g}"]


if __name__ == "__main__":
    raise SystemExit(main())
