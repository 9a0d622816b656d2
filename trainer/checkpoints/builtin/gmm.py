"""`gmm`: a Gaussian mixture of any dimension, whose denoiser is exact: no network, no training error."""

import hashlib
import math
from typing import Any

import torch
from torch import Tensor

from dyweight import schedules

SIGMA_MAX = 80.0
SIGMA_MIN = 0.002


class GaussianMixture:
    """Isotropic Gaussians under the variance-exploding noise x + sigma * noise, on EDM's schedule."""

    model_family = "gaussian mixture"
    prediction_type = "denoised"
    schedule_recipe = {"kind": "polynomial", "sigma_min": SIGMA_MIN, "sigma_max": SIGMA_MAX, "rho": 7.0}  # noqa: RUF012

    def __init__(self, means: Tensor, deviations: Tensor, weights: Tensor) -> None:
        """means [components, dimension], deviations [components], weights [components] that sum to 1."""
        self.means, self.deviations, self.weights = means, deviations, weights
        self.shape = (means.shape[1],)
        numbers = torch.cat([means.flatten(), deviations, weights]).double().numpy().tobytes()
        self.fingerprint = f"gmm-{means.shape[1]}-{hashlib.sha256(numbers).hexdigest()[:16]}"

    def schedule(self, steps: int) -> Tensor:
        """sigmas [steps + 1] from 80 to 0.002, rho 7."""
        return schedules.polynomial(steps, SIGMA_MIN, SIGMA_MAX)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, None]:
        """Noise of deviation 80; the data is lost in it. No condition."""
        return torch.randn(batch, *self.shape, generator=generator) * SIGMA_MAX, None

    def denoise(self, x: Tensor, sigma: Tensor, cond: Any = None) -> Tensor:
        """The posterior mean: x [B, dimension], sigma [B] -> [B, dimension]."""
        means, deviations, weights = (value.to(x) for value in (self.means, self.deviations, self.weights))
        total = deviations**2 + sigma.to(x)[:, None] ** 2
        distance = ((x[:, None] - means) ** 2).sum(-1)
        log_likelihood = torch.log(weights) - distance / (2 * total) - self.shape[0] / 2 * torch.log(total)
        share = torch.softmax(log_likelihood, dim=1)
        pulled = (means * (total - deviations**2)[..., None] + x[:, None] * (deviations**2)[:, None]) / total[..., None]
        return (share[..., None] * pulled).sum(1)


def checkpoint(dimension: int = 16, components: int = 8, seed: int = 0) -> GaussianMixture:
    """A seeded mixture of about unit variance, with components of different widths."""
    if dimension < 1 or components < 1:
        raise ValueError(f"dimension {dimension} and components {components} must be 1 or more")
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(components, dimension, generator=generator)
    deviations = torch.exp(torch.linspace(math.log(0.1), math.log(0.5), components))
    return GaussianMixture(means, deviations, torch.full((components,), 1 / components))
