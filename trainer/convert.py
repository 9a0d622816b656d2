"""Coefficients that others published, files of several numbers of steps, or a handcrafted solver on given sigmas, as
one coefficient file."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch

from dyweight import Provenance, Solver, SolverFile, SolverFileError, SolverSet, baselines
from dyweight.by_hand import by_hand

from .published import read_entry
from .published.solvers import from_entry
from .run.command import run
from .run.errors import TrainerError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.convert", description=__doc__)
    parser.add_argument(
        "source",
        nargs="*",
        help="FILE.pt (the authors' FLUX files), FILE.pkl (their training pickles), FILE.json:SET (a set in the layout "
        "of the reference), or a coefficient file. Read as data: nothing in it is run. Several, each for another "
        "number of steps of one model, become one file",
    )
    parser.add_argument("out", type=Path, help="the coefficient file to write")
    schedule = parser.add_argument_group("a handcrafted solver instead of a source, as the schedule of a turbo LoRA")
    schedule.add_argument("--sigmas", metavar="A,B,...", help="noise levels, decreasing, one more than there are steps")
    schedule.add_argument("--sampler", metavar="NAME", help=f"{', '.join(baselines.NAMES)}, or NAME:ORDER [euler]")
    schedule.add_argument("--made-for", metavar="TEXT", help="what the file is for, in words: a LoRA's name")
    schedule.add_argument(
        "--model-family",
        metavar="NAME",
        help="ComfyUI's name of the architecture, such as QwenImage, by which the nodes find the file",
    )
    options = parser.parse_args(arguments)
    given = {name: getattr(options, name) for name in ("sampler", "made_for", "model_family")}
    if options.sigmas is None:
        if not options.source:
            parser.error("give a SOURCE, or --sigmas")
        if unread := [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]:
            parser.error(f"{unread[0]} is for --sigmas, and nothing would read it with a source: leave it out")
        return run(lambda: convert(options.source, options.out))
    if options.source:
        parser.error(f"{', '.join(options.source)} and --sigmas: give only one of them")
    return run(lambda: convert_schedule(options.sigmas, out=options.out, **given))


def convert(sources: Sequence[str], out: Path) -> Solver | SolverSet:
    """Write the coefficient file of published coefficients, or the set of several. Raises TrainerError with what to do,
    SolverFileError for a coefficient file that can't be read."""
    members = [member for source in sources for member in _members(source)]
    try:
        file = members[0] if len(members) == 1 else SolverFile.joined(members)
        file.write(out)
    except ValueError as error:
        raise TrainerError(f"{', '.join(sources)}: can't be made into a coefficient file ({error})") from error
    for member in members:
        origin, solver = member.provenance.get("source") or member.path, member.solver
        print(f"{origin}: {solver.steps} steps, {solver.network_calls} network calls")
    print(f"wrote {out}")
    return file.content


def _members(source: str) -> list[SolverFile]:
    """The solvers of one source, one for each number of steps."""
    if source.endswith(".safetensors"):
        file = SolverFile.read(source)
        return [file.member(steps) for steps in file.solvers.steps]
    solver, provenance = from_entry(read_entry(source))
    return [SolverFile(solver, cast(Provenance, provenance))]


def convert_schedule(
    sigmas: str, sampler: str | None, made_for: str | None, model_family: str | None, out: Path
) -> Solver:
    """Write the file of a handcrafted solver on sigmas A,B,... Raises TrainerError with what to do."""
    try:
        levels = torch.tensor([float(sigma) for sigma in sigmas.split(",")], dtype=torch.float64)
    except ValueError as error:
        raise TrainerError(f"--sigmas {sigmas}: give numbers with commas between them ({error})") from error
    try:
        file = by_hand(levels, sampler or "euler", made_for or "", model_family).write(out)
    except SolverFileError as error:
        raise TrainerError(str(error)) from error
    except ValueError as error:
        raise TrainerError(f"--sigmas {sigmas} --sampler {sampler or 'euler'}: {error}") from error
    print(f"{sampler or 'euler'}: {file.solver.steps} steps, {file.solver.network_calls} network calls; wrote {out}")
    return file.solver


if __name__ == "__main__":
    raise SystemExit(main())
