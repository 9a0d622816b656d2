"""What a table for each sample brings over one for all: INDIS, DyWeight, both together, and the ablations.

python -m benchmarks.instance_aware --ckpt digits --steps 3 --seeds 0 1 2
"""

import argparse
import contextlib
import io
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoints.load import load_checkpoint
from trainer.compare.endpoint_error import endpoint_error, handcrafted
from trainer.distill import distill
from trainer.losses.features import Latent
from trainer.options.distill import DistillOptions
from trainer.pairs.pairs import deviation
from trainer.pairs.targets import default_cache
from trainer.run.network import Network

from .fit_methods import unseen

INDIS: dict[str, Any] = {"family": "indis"}
CORRECTED: dict[str, Any] = {"instance_aware": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "indis, one schedule for all": {**INDIS, "instance": False, "condition": False},
    "indis, no instance": {**INDIS, "instance": False},
    "indis, no condition": {**INDIS, "condition": False},
    "indis, no shift factors": {**INDIS, "shift_factors": False},
    "indis": INDIS,
    "dyweight": {},
    "dyweight, instance-aware, no instance": {**CORRECTED, "instance": False},
    "dyweight, instance-aware": CORRECTED,
}
QUICK = {"pairs": 512, "iterations": 8}


def main() -> None:
    """Fit every variant with every seed, and print one row for each variant."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instance_aware", description=__doc__)
    parser.add_argument("--ckpt", default="digits")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pairs", type=int, default=100_000, help="of the variants with a network")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--teacher", default="ipndm:20", help="that endpoints are learned from")
    parser.add_argument("--samples", type=int, default=2000, help="unseen ones, measured against ipndm:100")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="few pairs: whether it runs, not what it finds")
    options = parser.parse_args()
    if options.quick:
        options.pairs, options.iterations, options.samples = QUICK["pairs"], QUICK["iterations"], 100
    study = Study(options)
    print(f"{options.ckpt}, {options.steps} steps, {options.samples} unseen samples, seeds {options.seeds}")
    errors: dict[str, list[float]] = {name: [] for name in options.variants}
    for seed in options.seeds:
        for name in options.variants:
            errors[name].append(study.error(name, seed))
            print(f"seed {seed}  {name:<40} {errors[name][-1]:.5f}", flush=True)
    print(f"\nbest handcrafted: {study.best_handcrafted():.5f}\n")
    print("| solver | endpoint error | smallest to largest |\n| --- | --- | --- |")
    for name, found in errors.items():
        print(f"| {name} | {statistics.mean(found):.5f} | {min(found):.5f} to {max(found):.5f} |")


class Study:
    """The unseen samples, the fits, and the DyWeight of each seed that others start from."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._network = Network(load_checkpoint(options.ckpt))
        self._blocks = unseen(self._network, "ipndm:100", options.samples)
        self._features = Latent(deviation(self._blocks))
        self._folder = Path(tempfile.mkdtemp())
        self._known: dict[tuple[str, int], float] = {}

    def error(self, name: str, seed: int) -> float:
        """Relative endpoint error on the unseen samples."""
        if (name, seed) not in self._known:
            self._known[name, seed] = self._fit(name, seed)
        return self._known[name, seed]

    def best_handcrafted(self) -> float:
        """Of the solvers with as many calls."""
        plans = handcrafted(self._network.checkpoint, self._options.steps).values()
        return min(endpoint_error(self._network, self._blocks, plan, self._features) for plan in plans)

    def _fit(self, name: str, seed: int) -> float:
        options, variant = self._options, dict(VARIANTS[name])
        if variant.get("instance_aware"):
            self.error("dyweight", seed)
            variant["start"] = self._file("dyweight", seed)
        if variant:
            variant |= {"pairs": options.pairs, "batch": options.batch, "iterations": options.iterations}
            variant |= {"teacher": options.teacher, "recompute": False, "validation_pairs": 512}
            variant |= {"learning_rate": options.learning_rate}
        made = DistillOptions(
            ckpt=options.ckpt,
            steps=options.steps,
            out=self._file(name, seed),
            seed=seed,
            cache=default_cache(),
            **variant,
        )
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            solver = distill(made).solver
        with torch.no_grad():
            return endpoint_error(self._network, self._blocks, solver, self._features)

    def _file(self, name: str, seed: int) -> Path:
        return self._folder / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}.safetensors"


if __name__ == "__main__":
    main()
