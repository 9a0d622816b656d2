"""One seed of the experiment: targets, schedules, and the distance of each student's endpoints from the teacher's."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from dyweight import baselines
from trainer.checkpoints.load import checked
from trainer.compare.endpoint_error import Sampler, endpoint
from trainer.pairs.pairs import Pairs
from trainer.pairs.targets import Block, Targets
from trainer.pairs.teacher import Teacher
from trainer.run.network import Network

from . import learned
from .data import Tree
from .divergences import kl_divergence, wasserstein
from .schedules import STEPS, BestOfThree, best_of_three, errors

TEACHER_STEP = 0.02
"""In sigma: 100 Euler steps from sigma_max 2, the number of the teacher in the paper's figure 2."""
BATCH = 128
UNIFORM, SHARED, ORACLE, PHI = "uniform", "best shared", "oracle", "phi"


@dataclass(frozen=True)
class Sizes:
    """The amount of work for a seed."""

    calls: tuple[int, ...] = (3, 4, 5, 6, 7, 8, 9)
    training: int = 10_000
    evaluation: int = 1024
    levels: int = 12
    iterations: learned.Iterations = field(default_factory=learned.Iterations)


QUICK = Sizes((3, 5), 1024, 256, 8, learned.Iterations(shared=30, phi=120))


@dataclass(frozen=True)
class Distance:
    """The distance of a student's endpoints from the teacher's on the same noise."""

    mse: float
    """Mean over samples and both coordinates."""
    kl: float
    """In nats; see `divergences.kl_divergence`."""
    wasserstein: float


@dataclass(frozen=True)
class Three:
    """The table of three steps, on samples that only the two searches have seen."""

    mse: dict[str, float]
    shared_sigmas: list[float]
    gain: float
    """The reduction of the mean squared error by the oracle, relative to the best shared schedule's."""
    gain_by_noise: list[float]
    """The same for each quarter of the samples by the length of their noise, shortest first."""
    recovered: float
    """The part of the gain that phi achieves."""


@dataclass(frozen=True)
class Study:
    """The figures of one seed."""

    seed: int
    three: Three
    curves: dict[str, dict[int, Distance]]
    """By student and number of calls; the best shared schedule and phi are fitted to the training pairs."""
    phi_gain: dict[int, float]
    """The reduction of the mean squared error by phi, relative to the fitted shared schedule's."""


@dataclass(frozen=True)
class Picture:
    """The data of figure 2: three steps, sample by sample."""

    tree: Tree
    noise: Tensor
    """[samples, 2]"""
    target: Tensor
    """[samples, 2]"""
    endpoints: dict[str, Tensor]
    """[samples, 2] by student."""


class Case:
    """A tree with the noise of one seed and the teacher's endpoints."""

    def __init__(self, tree: Tree, seed: int, evaluation: int, cache: Path | None = None) -> None:
        """cache: folder for the endpoints of the training pairs, which several fits need."""
        self.tree, self.network = tree, Network(checked(tree, "benchmarks.tree:checkpoint"))
        teacher = Teacher("euler", max(1, round(tree.sigma_max / TEACHER_STEP)))
        self.targets = Targets(self.network, teacher, seed, BATCH, cache)
        blocks = [self.targets.block("evaluation", i) for i in range(self.targets.block_count(evaluation))]
        noise, target = (torch.cat([getattr(block, name) for block in blocks]) for name in ("noise", "target"))
        self.unseen = Block(0, noise, None, target)

    def uniform(self, steps: int) -> Sampler:
        """Euler on sigmas spaced evenly from sigma_max to 0."""
        return baselines.plan("euler", self.tree.schedule(steps))

    def distance(self, sampler: Sampler) -> Distance:
        end, target = endpoint(self.network, self.unseen, sampler), self.unseen.target
        mse = float(errors(self.network, self.unseen, sampler).mean())
        return Distance(mse, kl_divergence(target, end), wasserstein(target, end))

    def best_of_three(self, levels: int) -> BestOfThree:
        return best_of_three(self.network, self.unseen, levels)


def study(tree: Tree, seed: int, sizes: Sizes, cache: Path) -> tuple[Study, Picture]:
    """Run one seed. cache: folder for the teacher's endpoints."""
    case = Case(tree, seed, sizes.evaluation, cache)
    best = case.best_of_three(sizes.levels)
    pairs = Pairs(case.targets, sizes.training, BATCH)
    curves: dict[str, dict[int, Distance]] = {UNIFORM: {}, SHARED: {}, PHI: {}}
    students: dict[str, Sampler] = {}
    for calls in sizes.calls:
        shared = learned.best_shared(case.network, pairs, calls, sizes.iterations, seed)
        phi = learned.phi(case.network, pairs, shared, sizes.iterations, seed)
        of_calls = {UNIFORM: case.uniform(calls), SHARED: shared, PHI: phi}
        for name, sampler in of_calls.items():
            curves[name][calls] = case.distance(sampler)
        if calls == STEPS:
            students = of_calls
    phi_gain = {calls: 1 - curves[PHI][calls].mse / curves[SHARED][calls].mse for calls in sizes.calls}
    students |= {SHARED: baselines.plan("euler", best.shared), ORACLE: baselines.plan("euler", best.own)}
    three = _three(case, best, students)
    order = (UNIFORM, SHARED, ORACLE, PHI)
    ends = {name: endpoint(case.network, case.unseen, students[name]) for name in order}
    return Study(seed, three, curves, phi_gain), Picture(tree, case.unseen.noise, case.unseen.target, ends)


def _three(case: Case, best: BestOfThree, students: dict[str, Sampler]) -> Three:
    found = {name: errors(case.network, case.unseen, sampler) for name, sampler in students.items()}
    mse = {name: float(values.mean()) for name, values in found.items()}
    recovered = (mse[SHARED] - mse[PHI]) / (mse[SHARED] - mse[ORACLE])
    quarters = case.unseen.noise.norm(dim=1).argsort().chunk(4)
    by_noise = [1 - float(found[ORACLE][rows].mean() / found[SHARED][rows].mean()) for rows in quarters]
    return Three(mse, best.shared.tolist(), best.gain, by_noise, recovered)
