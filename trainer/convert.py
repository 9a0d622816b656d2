"""`python -m trainer.convert SOURCE [SOURCE ...] OUT.safetensors`: coefficients that others published, or files of
several numbers of steps, as one coefficient file."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from dyweight import Provenance, Solver, SolverFile, SolverSet

from .published import read_entry
from .published.solvers import from_entry
from .run.command import run
from .run.errors import TrainerError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.convert", description=__doc__)
    parser.add_argument(
        "source",
        nargs="+",
        help="FILE.pt (the authors' FLUX files), FILE.pkl (their training pickles), FILE.json:SET (a set in the layout "
        "of the reference), or a coefficient file. Read as data: nothing in it is run. Several, each for another "
        "number of steps of one model, become one file",
    )
    parser.add_argument("out", type=Path, help="the coefficient file to write")
    options = parser.parse_args(arguments)
    return run(lambda: convert(options.source, options.out))


def convert(sources: Sequence[str], out: Path) -> Solver | SolverSet:
    """Write the coefficient file of published coefficients, or the set of several. Raises TrainerError with what to do,
    SolverFileError for a coefficient file that can't be read."""
    members = [member for source in sources for member in _members(source)]
    try:
        file = members[0] if len(members) == 1 else joined(members)
        file.write(out)
    except ValueError as error:
        raise TrainerError(f"{', '.join(sources)}: can't be made into a coefficient file ({error})") from error
    for member in members:
        origin, solver = member.provenance.get("source") or member.path, member.solver
        print(f"{origin}: {solver.steps} steps, {solver.network_calls} network calls")
    print(f"wrote {out}")
    return file.content


def joined(members: Sequence[SolverFile]) -> SolverFile:
    """One file of several: what they all say of their model is said once, the rest of each member.

    Raises ValueError where two have as many steps, or they are not for one model.
    """
    solvers = SolverSet([member.solver for member in members])
    said: list[dict[str, Any]] = [{**member.provenance} for member in members]
    for name in ("model", "fingerprint"):
        different = {str(one[name]) for one in said if one.get(name) is not None}
        if len(different) > 1:
            raise ValueError(f"they are for different models: {name} is {' and '.join(sorted(different))}")
    common = {
        name: value for name, value in said[0].items() if all(name in other and other[name] == value for other in said)
    }
    own = [{name: value for name, value in one.items() if name not in common} for one in said]
    by_steps = {str(member.solver.steps): one for member, one in zip(members, own, strict=True)}
    return SolverFile(solvers, cast(Provenance, {**common, "members": by_steps}))


def _members(source: str) -> list[SolverFile]:
    """The solvers of one source, one for each number of steps."""
    if source.endswith(".safetensors"):
        file = SolverFile.read(source)
        return [file.member(steps) for steps in file.solvers.steps]
    solver, provenance = from_entry(read_entry(source))
    return [SolverFile(solver, cast(Provenance, provenance))]


if __name__ == "__main__":
    raise SystemExit(main())
