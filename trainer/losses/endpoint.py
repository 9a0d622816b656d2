"""Losses on the endpoint, each as a value and as the weights of its least-squares form."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .features import OF_FEATURES, Features, Latent

Elementwise = Callable[[Tensor, float], Tensor]
"""(residual, delta) -> a tensor like residual."""


def _huber(residual: Tensor, delta: float) -> Tensor:
    size = residual.abs()
    return torch.where(size <= delta, residual**2, 2 * delta * size - delta**2)


POINTWISE: dict[str, tuple[Elementwise, Elementwise]] = {
    "l2": (lambda e, delta: e**2, lambda e, delta: torch.ones_like(e)),
    "l1": (lambda e, delta: e.abs(), lambda e, delta: 1 / (2 * e.abs().clamp_min(1e-3))),
    "huber": (_huber, lambda e, delta: delta / e.abs().clamp_min(delta)),
}
"""name -> (loss of each element, weights w such that w e^2 has the gradient of the loss)"""
LOSSES = (*POINTWISE, *OF_FEATURES)
"""The choices of `--loss`: a pointwise loss on the latent, or l2 on features."""


@dataclass(frozen=True)
class EndpointLoss:
    """A loss of the residual e = (features of the student's endpoint - of the target's) / unit, mean over all elements.

    l2 is e^2, with the latent as its own feature the relative endpoint error; l1 is |e|; huber is e^2 up to delta and
    2 delta |e| - delta^2 beyond (Huber 1964). The others are e^2 of features, see `features`.
    """

    name: str = "l2"
    huber_delta: float = 1.0
    features: Features = field(default_factory=lambda: Latent(1.0))
    pair_limit: float = math.inf
    """A pair whose loss e is above it counts as 2 sqrt(limit e) - limit: huber, of the pair as a whole."""

    @property
    def of_inner_products(self) -> bool:
        """Whether it is the squared length of a latent, in whatever coordinates."""
        return self.name == "l2" and isinstance(self.features, Latent)

    def residual(self, end: Tensor, target: Tensor) -> Tensor:
        """end [B, *shape], target [B, *shape] -> [B, n]."""
        return (self.features(end) - self.features(target)) / self.features.unit

    def value(self, residual: Tensor) -> Tensor:
        """residual [*shape] -> [], with gradients; without a limit for pairs."""
        value, _ = POINTWISE.get(self.name, POINTWISE["l2"])
        return value(residual, self.huber_delta).mean()

    def of_pairs(self, residual: Tensor, count: int) -> Tensor:
        """residual [pairs, n] -> [pairs] float64, the mean over `count` elements, for which a sketch may stand; without
        a limit."""
        value, _ = POINTWISE.get(self.name, POINTWISE["l2"])
        return value(residual, self.huber_delta).double().sum(1) / count

    def limited(self, of_pairs: Tensor) -> Tensor:
        """[pairs] losses -> [pairs] as they count."""
        beyond = 2 * (self.pair_limit * of_pairs).sqrt() - self.pair_limit
        return torch.where(of_pairs <= self.pair_limit, of_pairs, beyond)

    def weights(self, residual: Tensor, count: int) -> Tensor:
        """residual [pairs, n] -> w [pairs, n]: w e^2 has the gradient of the limited losses of pairs, whose `count` is
        that of `of_pairs` (iteratively reweighted least squares)."""
        _, weights = POINTWISE.get(self.name, POINTWISE["l2"])
        of_pairs = self.of_pairs(residual, count).clamp_min(1e-300)
        counted = (self.pair_limit / of_pairs).sqrt().clamp_max(1)
        return weights(residual, self.huber_delta) * counted[:, None].to(residual)
