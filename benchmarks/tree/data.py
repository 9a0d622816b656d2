"""A tree that branches recursively in the plane, as a Gaussian mixture, so that its denoiser is exact."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dyweight import schedules
from trainer.checkpoints.builtin.gmm import GaussianMixture


@dataclass(frozen=True)
class Branch:
    """A straight piece of the tree."""

    start: complex
    """In the plane, as x + iy; trunks have the length 1."""
    end: complex
    generation: int
    """0 for a trunk."""


class Tree(GaussianMixture):
    """Trunks of length 1 leave the origin in evenly spaced directions, and each branch forks into two shorter ones.

    The noise is that of a variance-exploding model, x + sigma * noise, from `sigma_max` down to 0. INDIS
    publishes only that its tree (figures 2 and 3) branches recursively. This shape is ours, chosen so that a schedule
    for each sample helps as much as it does there.
    """

    model_family = "tree"

    def __init__(
        self,
        trunks: int = 3,
        generations: int = 5,
        ratio: float = 0.5,
        angle: float = 45.0,
        growth: float = 3.0,
        components: int = 3,
        width: float = 0.3,
        sigma_max: float = 2.0,
    ) -> None:
        """
        generations: including the trunks. ratio: length of a branch relative to its parent's. angle: between them, in
        degrees. growth: mass of a generation relative to the previous one's. components: Gaussians along a branch, each
        with a deviation of `width` times their distance.
        """
        branches = list(_branches(trunks, generations, ratio, math.radians(angle)))
        places = (torch.arange(components, dtype=torch.float64) + 0.5) / components
        means, deviations, weights = [], [], []
        for branch in branches:
            line = branch.start + (branch.end - branch.start) * places
            means.append(torch.stack([line.real, line.imag], dim=1))
            deviations.append(torch.full((components,), width * abs(branch.end - branch.start) / components))
            weights.append(torch.full((components,), (growth / 2) ** branch.generation))
        total = torch.cat(weights) / torch.cat(weights).sum()
        super().__init__(torch.cat(means).float(), torch.cat(deviations), total)
        self.branches, self.sigma_max = branches, sigma_max
        self.schedule_recipe = {"kind": "polynomial", "sigma_min": 0.0, "sigma_max": sigma_max, "rho": 1.0}

    @property
    def deviation(self) -> float:
        """Standard deviation of the tree's points per coordinate."""
        weights, means = self.weights[:, None], self.means
        centre = (weights * means).sum(0)
        return float((weights * ((means - centre) ** 2 + self.deviations[:, None] ** 2)).sum(0).mean().sqrt())

    def schedule(self, steps: int) -> Tensor:
        """sigmas [steps + 1], evenly spaced from sigma_max to 0."""
        return self.sigma_max * schedules.flow(steps)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, None]:
        """Noise of deviation sigma_max as in INDIS, without the rest of the data at that level. No condition."""
        return torch.randn(batch, *self.shape, generator=generator) * self.sigma_max, None

    def denoise(self, x: Tensor, sigma: Tensor, cond: object = None) -> Tensor:
        """The mixture's posterior mean: x [B, 2], sigma [B] -> [B, 2]; by products of matrices instead of [B, K, 2]."""
        means, variances, weights = self.means.to(x), self.deviations.to(x) ** 2, self.weights.to(x)
        precision = 1 / (variances + sigma.to(x)[:, None] ** 2)
        half_distance = (x**2).sum(1, keepdim=True) / 2 - x @ means.T + (means**2).sum(1) / 2
        share = torch.softmax(weights.log() + precision.log() - precision * half_distance, dim=1)
        kept = share * precision * variances
        return (share - kept) @ means + kept.sum(1, keepdim=True) * x

    def points(self, generator: torch.Generator, count: int) -> Tensor:
        """[count, 2] drawn from the tree itself."""
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, 2, generator=generator)
        return self.means[chosen] + self.deviations[chosen, None] * noise


def checkpoint() -> Tree:
    """The tree of the tables and figures."""
    return Tree()


def _branches(trunks: int, generations: int, ratio: float, angle: float) -> Iterator[Branch]:
    """All branches, parents first."""

    def grow(start: complex, step: complex, generation: int) -> Iterator[Branch]:
        yield Branch(start, start + step, generation)
        if generation + 1 < generations:
            for side in (-angle, angle):
                turned = step * complex(math.cos(side), math.sin(side))
                yield from grow(start + step, ratio * turned, generation + 1)

    for trunk in range(trunks):
        direction = math.pi / 2 + 2 * math.pi * trunk / trunks
        yield from grow(0j, complex(math.cos(direction), math.sin(direction)), 0)
