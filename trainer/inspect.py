"""`python -m trainer.inspect FILE [--steps N] [--picture OUT.png]`: what a coefficient file is, in words, numbers and a
picture."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from dyweight import Provenance, Solver, SolverFile
from dyweight.files import write_whole
from dyweight.picture import png

from .run.command import run
from .run.errors import TrainerError

MOST_COLUMNS = 8
"""Most columns of one tensor in the table of the steps."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.inspect", description=__doc__)
    parser.add_argument("file", type=Path, help="the coefficient file to describe")
    parser.add_argument("--steps", type=int, default=0, help="number of steps: only that solver of several")
    parser.add_argument("--picture", type=Path, metavar="OUT.png", help="file for a picture of its coefficients")
    options = parser.parse_args(arguments)
    return run(lambda: inspect(options.file, options.picture, options.steps))


def inspect(file: Path, picture: Path | None = None, steps: int = 0) -> None:
    """Print what the file is, and draw it. Raises SolverFileError for a file that can't be read, TrainerError for a
    number of steps that it does not have."""
    found = SolverFile.read(file)
    try:
        found = found.member(steps) if steps else found
    except ValueError as error:
        raise TrainerError(f"--steps {steps}: {error}") from error
    print(description(found))
    if picture:
        write_whole(picture, png(found))
        print(f"wrote {picture}")


def description(file: SolverFile) -> str:
    """Family, settings, errors, provenance and the numbers of each step. Null fields of the provenance are left out."""
    members = [file.member(steps) for steps in file.solvers.steps]
    if len(members) == 1:
        return "\n".join([*_facts(members[0], _about(members[0].solver)), *_steps(members[0].solver)])
    common: dict[str, Any] = {name: value for name, value in file.provenance.items() if name != "members"}
    about = {"family": file.content.family, "steps": ", ".join(map(str, file.solvers.steps))}
    lines = _facts(replace(file, provenance=cast(Provenance, common)), about)
    for member in members:
        own = {name: value for name, value in member.provenance.items() if common.get(name) != value}
        file = replace(member, provenance=cast(Provenance, own))
        lines += [*_facts(file, _about(member.solver)), *_steps(member.solver), ""]
    return "\n".join(lines)


def _about(solver: Solver) -> dict[str, Any]:
    """What the solver is; its sigmas are a column of the table of steps."""
    settings = {name: value for name, value in solver.settings().items() if name != "sigmas"}
    calls = {"network calls": solver.network_calls}
    if solver.guided:
        calls["evaluations"] = solver.evaluations
    return {"family": solver.family, "steps": solver.steps, **calls, **settings}


def _facts(file: SolverFile, about: dict[str, Any]) -> list[str]:
    given = {name: value for name, value in file.provenance.items() if value is not None}
    errors = {name: given.pop(name) for name in list(given) if "error" in name}
    sections = {str(file.path): about, "errors": errors, "made for and by": given}
    width = max(map(len, (*about, *errors, *given)))
    lines = []
    for title, fields in sections.items():
        lines += [title if fields else f"{title}: none given"]
        lines += [*(f"  {name:<{width}}  {_shown(value)}" for name, value in fields.items()), ""]
    return ["".join(c if c.isprintable() else ascii(c)[1:-1] for c in line) for line in lines]


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _steps(solver: Solver) -> list[str]:
    """A line for each step: its noise level, and its numbers in the file."""
    columns = {"sigma": solver.sigmas[:-1]}
    if not solver.reads_samples:
        plan = solver.plan()
        columns |= {"shifted": plan.sigmas[:-1], "asked at": plan.query_sigmas}
    columns |= {name: tensor for name, tensor in solver.tensors().items() if "." not in name}
    header, rows = "step", [f"{n:>4}" for n in range(solver.steps)]
    for name, values in columns.items():
        if len(values) == solver.steps:  # not per network call, in a solver with two calls a step
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
