"""Losses on the endpoint, each as a value and as the weights of its least-squares form."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .features import Features, Latent

LossName = Literal["l2", "l1", "huber", "lpips", "inception", "features"]


@dataclass(frozen=True)
class EndpointLoss:
    """A loss of the residual e = (features of the student's endpoint - of the target's) / unit, mean over all elements.

    l2 is e^2, with the latent as its own feature the relative endpoint error; l1 is |e|; huber is e^2 up to delta and
    2 delta |e| - delta^2 beyond (Huber 1964). lpips and inception are e^2 of features of the decoded image,
    features of those that the checkpoint itself tells.
    """

    name: LossName = "l2"
    huber_delta: float = 1.0
    features: Features = field(default_factory=lambda: Latent(1.0))

    def residual(self, end: Tensor, target: Tensor) -> Tensor:
        """[B, *shape] twice -> [B, n]."""
        return (self.features(end) - self.features(target)) / self.features.unit

    def value(self, residual: Tensor) -> Tensor:
        """A scalar, with gradients."""
        size = residual.abs()
        if self.name == "l1":
            return size.mean()
        if self.name != "huber":
            return (residual**2).mean()
        delta = self.huber_delta
        return torch.where(size <= delta, residual**2, 2 * delta * size - delta**2).mean()

    def weights(self, residual: Tensor) -> Tensor:
        """Elementwise w such that w e^2 has the gradient of the loss (iteratively reweighted least squares)."""
        size = residual.abs()
        if self.name == "l1":
            return 1 / (2 * size.clamp_min(1e-3))
        if self.name != "huber":
            return torch.ones_like(residual)
        return self.huber_delta / size.clamp_min(self.huber_delta)
