"""`python -m trainer.convert SOURCE OUT.safetensors`: coefficients that others published, as a coefficient file."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import dyweight
from dyweight import DyWeight, SolverFileError

from .published import read_entry
from .published.solvers import from_entry
from .run.command import run
from .run.errors import TrainerError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.convert", description=__doc__)
    parser.add_argument(
        "source",
        help="FILE.pt (the authors' FLUX files), FILE.pkl (their training pickles), or FILE.json:SET "
        "(a set in the layout of the reference). Read as data: nothing in it is run",
    )
    parser.add_argument("out", type=Path, help="the coefficient file to write")
    options = parser.parse_args(arguments)
    return run(lambda: convert(options.source, options.out))


def convert(source: str, out: Path) -> DyWeight:
    """Write the coefficient file of published coefficients. Raises TrainerError with what to do."""
    solver, provenance = from_entry(read_entry(source))
    try:
        dyweight.save_solver(solver, out, provenance)
    except SolverFileError as error:
        raise TrainerError(f"{source}: no coefficient file can be made of it ({error})") from error
    print(f"{provenance['source']}: {solver.steps} steps, {solver.network_calls} network calls; wrote {out}")
    return solver


if __name__ == "__main__":
    raise SystemExit(main())
