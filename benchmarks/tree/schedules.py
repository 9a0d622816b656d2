"""The best schedules of three Euler steps, one for all samples and one for each: a grid, then a finer search."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor

from dyweight import baselines, schedules
from trainer.compare.endpoint_error import Sampler, endpoint
from trainer.pairs.targets import Block
from trainer.run.network import Network

STEPS = 3
LEAST_RATIO, MOST_RATIO = 1e-3, 0.999
"""Bounds of the ratio of a sigma to the previous one."""
LEAST_SIGMA = 0.02
"""The smallest sigma of the grid; the finer search goes lower."""
STARTS = 4
"""Number of points of the grid from which the search for a sample's schedule continues."""
ROUNDS = 9
"""Rounds of the finer search; each halves the step."""


@dataclass(frozen=True)
class BestOfThree:
    """The best that three Euler steps achieve on these samples."""

    shared: Tensor
    """[4] the sigmas with the smallest mean error"""
    shared_error: float
    own: Tensor
    """[samples, 4] the best sigmas of each sample: the oracle, which knows the target"""
    own_errors: Tensor
    """[samples]"""

    @property
    def gain(self) -> float:
        """The relative reduction of the mean error by a schedule for each sample."""
        return 1 - float(self.own_errors.mean()) / self.shared_error


def errors(network: Network, block: Block, sampler: Sampler) -> Tensor:
    """[samples] mean squared difference from the teacher's endpoint, the mean over the two coordinates."""
    return ((endpoint(network, block, sampler) - block.target) ** 2).mean(1).double()


def best_of_three(network: Network, block: Block, levels: int) -> BestOfThree:
    """Search all schedules of the model's range with both inner sigmas on `levels` levels, then between the levels.

    The search for the shared schedule also starts from the uniform one, and that for each sample from the shared one,
    so that neither ends worse than what it is compared with.
    """
    uniform = network.checkpoint.schedule(STEPS)
    grid = _grid(float(uniform[0]), levels)
    found = torch.stack([_euler_errors(network, block, sigmas) for sigmas in grid], dim=1)
    starts = torch.stack([grid[int(found.mean(0).argmin())], uniform])
    shared, means = _closer(lambda rows: _means(network, block, rows), starts, 6 / levels)
    best = shared[int(means.argmin())]

    nearest = grid[found.topk(min(STARTS, len(grid)), dim=1, largest=False).indices]
    starts = torch.cat([nearest, best.expand(len(nearest), 1, -1)], dim=1)
    several = _repeated(block, starts.shape[1])
    own, least = _closer(lambda rows: _euler_errors(network, several, rows), starts.flatten(0, 1), 6 / levels)
    chosen = least.reshape(starts.shape[:2]).min(1)
    own = own.reshape(starts.shape)[torch.arange(len(nearest)), chosen.indices]
    return BestOfThree(best, float(means.min()), own, chosen.values)


def _euler_errors(network: Network, block: Block, sigmas: Tensor) -> Tensor:
    """`errors` of Euler on sigmas [4], or on those of each sample [samples, 4]."""
    return errors(network, block, baselines.plan("euler", sigmas))


def _means(network: Network, block: Block, rows: Tensor) -> Tensor:
    """The mean error of each schedule [schedules, 4]."""
    return torch.stack([_euler_errors(network, block, sigmas).mean() for sigmas in rows])


def _repeated(block: Block, times: int) -> Block:
    """Each pair `times` times in a row."""
    noise, target = (value.repeat_interleave(times, 0) for value in (block.noise, block.target))
    return replace(block, noise=noise, target=target)


def _grid(sigma_max: float, levels: int) -> Tensor:
    """[levels (levels - 1) / 2, 4] schedules; the levels are denser at low sigmas."""
    inner = schedules.polynomial(levels, LEAST_SIGMA, sigma_max, rho=5.0)[1:]
    rows = [[sigma_max, float(first), float(second), 0.0] for first, second in combinations(inner, 2)]
    return torch.tensor(rows, dtype=torch.float64)


def _closer(errors_of: Callable[[Tensor], Tensor], sigmas: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Pattern search on the ratios of neighbouring sigmas, row by row: sigmas [rows, 4] -> the best, their errors.

    step: the first change of the log of a ratio.
    """
    ratios, least = sigmas[:, 1:3] / sigmas[:, :2], errors_of(sigmas)
    for _ in range(ROUNDS):
        for direction in torch.tensor([[1, 0], [-1, 0], [0, 1], [0, -1], [1, -1], [-1, 1]], dtype=torch.float64):
            tried = (ratios * torch.exp(step * direction)).clamp(LEAST_RATIO, MOST_RATIO)
            found = errors_of(_from_ratios(sigmas[:, 0], tried))
            better = found < least
            ratios, least = torch.where(better[:, None], tried, ratios), torch.where(better, found, least)
        step /= 2
    return _from_ratios(sigmas[:, 0], ratios), least


def _from_ratios(first: Tensor, ratios: Tensor) -> Tensor:
    inner = first[:, None] * ratios.cumprod(1)
    return torch.cat([first[:, None], inner, torch.zeros(len(first), 1, dtype=torch.float64)], dim=1)
