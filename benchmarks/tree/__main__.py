"""`python -m benchmarks.tree`: the tables and pictures of INDIS's synthetic experiment."""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from . import figures
from .data import checkpoint
from .settings import settings
from .study import ORACLE, PHI, QUICK, SHARED, UNIFORM, Sizes, Study, study


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    print(f"the tree of benchmarks/tree/data.py, Euler, teacher euler:100, {torch.get_num_threads()} threads")
    seeds = options.seeds or ([0] if options.quick or options.settings else [0, 1, 2])
    if options.settings:
        _settings_table(seeds[0], options.out)
        return 0
    began, sizes, studies = time.monotonic(), QUICK if options.quick else Sizes(), []
    if options.calls:
        sizes = replace(sizes, calls=tuple(sorted({3, *options.calls})))
    pictures = []
    with tempfile.TemporaryDirectory() as cache:
        for seed in seeds:
            done, picture = study(checkpoint(), seed, sizes, Path(cache))
            studies.append(done)
            pictures.append(picture)
            print(f"seed {seed} after {time.monotonic() - began:.0f} s", flush=True)
    _three_steps_table(studies)
    _calls_table(studies)
    if options.out is not None:
        figures.errors_over_noise(pictures[0], options.out / "tree-noise.png")
        figures.distances_over_calls(studies, options.out / "tree-calls.png")
        _write_json(options.out / "tree.json", {"sizes": asdict(sizes), "studies": [s.as_json() for s in studies]})
    return 0


def _three_steps_table(studies: Sequence[Study]) -> None:
    print("\nThree steps, mean squared error of the endpoints on unseen samples")
    print("| seed | uniform | best shared | own, oracle | own, phi | oracle's gain | phi has of it |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for done in studies:
        errors = " | ".join(f"{done.three.mse[name]:.4f}" for name in (UNIFORM, SHARED, ORACLE, PHI))
        print(f"| {done.seed} | {errors} | {done.three.gain:.1%} | {done.three.recovered:.0%} |")
    means = [statistics.mean(done.three.mse[name] for done in studies) for name in (UNIFORM, SHARED, ORACLE, PHI)]
    gain, recovered = (statistics.mean(getattr(done.three, name) for done in studies) for name in ("gain", "recovered"))
    print(f"| mean | {' | '.join(f'{value:.4f}' for value in means)} | {gain:.1%} | {recovered:.0%} |")
    sigmas = [", ".join(f"{sigma:.3f}" for sigma in done.three.shared_sigmas) for done in studies]
    print("best shared sigmas: " + "; ".join(sigmas))
    quarters = zip(*(done.three.gain_by_noise for done in studies), strict=True)
    print("oracle's gain by the length of the noise, quarter by quarter from the shortest: ", end="")
    print(", ".join(f"{statistics.mean(quarter):.0%}" for quarter in quarters))


def _calls_table(studies: Sequence[Study]) -> None:
    print("\nOver network calls, mean over the seeds: mean squared error, KL divergence, Wasserstein distance")
    print("| calls | uniform | best shared | phi | phi's gain over best shared |")
    print("| --- | --- | --- | --- | --- |")
    for calls in studies[0].phi_gain:
        cells = []
        means = {}
        for name in (UNIFORM, SHARED, PHI):
            distances = [done.curves[name][calls] for done in studies]
            fields = ("mse", "kl", "wasserstein")
            means[name] = [statistics.mean(getattr(d, field) for d in distances) for field in fields]
            cells.append(", ".join(f"{value:.4f}" for value in means[name]))
        gains = (1 - ours / theirs for ours, theirs in zip(means[PHI], means[SHARED], strict=True))
        print(f"| {calls} | {' | '.join(cells)} | {', '.join(f'{gain:.0%}' for gain in gains)} |")


def _settings_table(seed: int, out: Path | None) -> None:
    print("\nThree steps, one thing changed at a time")
    print("| changed | deviation of the tree | uniform | best shared | oracle | oracle's gain |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = []
    for row in settings(seed):
        errors = " | ".join(f"{value:.4f}" for value in (row.uniform, row.shared, row.oracle))
        print(f"| {row.changed} | {row.deviation:.2f} | {errors} | {row.gain:.1%} |", flush=True)
        rows.append(asdict(row))
    if out is not None:
        _write_json(out / "tree-settings.json", rows)


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tree", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 and 5 calls on few samples, one seed: some seconds")
    parser.add_argument("--settings", action="store_true", help="print how the oracle's gain depends on the tree")
    parser.add_argument("--seeds", type=int, nargs="+", help="by default 0 1 2, with --quick or --settings 0")
    parser.add_argument("--calls", type=int, nargs="+", help="numbers of network calls beside 3")
    parser.add_argument("--out", type=Path, help="folder for tree-noise.png, tree-calls.png and tree.json")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
