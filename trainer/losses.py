"""Losses on the endpoint, each as a value and as the weights of its least-squares form."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

LossName = Literal["l2", "l1", "huber"]


@dataclass(frozen=True)
class EndpointLoss:
    """A loss of the residual e = (student - target) / standard deviation of the targets, mean over all elements.

    l2 is e^2, the relative endpoint error; l1 is |e|; huber is e^2 up to delta and 2 delta |e| - delta^2 beyond
    (Huber 1964).
    """

    name: LossName = "l2"
    huber_delta: float = 1.0

    def value(self, residual: Tensor) -> Tensor:
        """A scalar, with gradients."""
        size = residual.abs()
        if self.name == "l2":
            return (residual**2).mean()
        if self.name == "l1":
            return size.mean()
        delta = self.huber_delta
        return torch.where(size <= delta, residual**2, 2 * delta * size - delta**2).mean()

    def weights(self, residual: Tensor) -> Tensor:
        """Elementwise w such that w e^2 has the gradient of the loss (iteratively reweighted least squares)."""
        if self.name == "l2":
            return torch.ones_like(residual)
        size = residual.abs()
        if self.name == "l1":
            return 1 / (2 * size.clamp_min(1e-3))
        return self.huber_delta / size.clamp_min(self.huber_delta)
