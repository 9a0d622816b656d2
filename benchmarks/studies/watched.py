"""The trainer's Adam with a record of the loss of every iteration and of the slopes on its solver's path."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import dyweight
from dyweight import Plan
from dyweight.sampling import Call, Denoise
from trainer.compare.endpoint_error import plan_for
from trainer.fit.adam import Adam
from trainer.pairs.targets import Block


@dataclass
class Record:
    """An entry for each iteration; all but `losses` are on the same pairs, so that only the solver changes them."""

    expected: list[tuple[float, float]]
    """(noise level, deviation of the teacher's slopes there) on the same pairs, in increasing order."""
    losses: list[float] = field(default_factory=list)
    """The loss on the iteration's own pairs."""
    held_out_losses: list[float] = field(default_factory=list)
    """The loss of the median pair: one pair that ends elsewhere would dominate the mean of a few."""
    sigmas: list[list[float]] = field(default_factory=list)
    """Noise level of each state at which the network was called."""
    deviations: list[list[float]] = field(default_factory=list)
    """Standard deviation of the slope (x - denoised) / sigma there, over all elements of the pairs."""


class WatchedAdam(Adam):
    """Adam with a record."""

    def __init__(self, *of_adam: Any, expected: list[tuple[float, float]]) -> None:
        super().__init__(*of_adam)
        self.record = Record(expected)

    def block_loss(self, block: Block) -> Tensor:
        loss = super().block_loss(block)
        self.record.losses.append(float(loss.detach()))
        self._watch(self.pairs.validation[0])
        return loss

    @torch.no_grad()
    def _watch(self, block: Block) -> None:
        denoise, plan = self.network.bound(block.cond, block.first), plan_for(self.solver, self.network, block)
        end, sigmas, deviations = slopes(denoise, block.noise, plan)
        by_pair = self.loss.residual(end, block.target).square().mean(1)
        self.record.held_out_losses.append(float(by_pair.median()))
        self.record.sigmas.append(sigmas)
        self.record.deviations.append(deviations)


def slopes(denoise: Denoise, noise: Tensor, plan: Plan) -> tuple[Tensor, list[float], list[float]]:
    """The endpoint of a plan, the noise levels of its states, and the standard deviations of the slopes there."""
    sigmas, deviations = [], []

    def keep(call: Call) -> None:
        sigmas.append(float(call.state_sigma))
        deviations.append(float(((call.x - call.denoised) / sigmas[-1]).std()))

    return dyweight.sample(denoise, noise, plan, keep), sigmas, deviations
