"""The Gaussian mixture: its denoiser against the same posterior mean computed in other ways."""

import math

import pytest
import torch
from torch import Tensor

from trainer.checkpoints.builtin.gmm import GaussianMixture, checkpoint

SIGMAS = [0.002, 0.1, 1.0, 10.0, 80.0]


def in_float64(mixture: GaussianMixture) -> GaussianMixture:
    return GaussianMixture(mixture.means.double(), mixture.deviations.double(), mixture.weights.double())


def near_the_data(mixture: GaussianMixture, sigma: float, batch: int) -> Tensor:
    """Noised points [batch, dimension] of the mixture, float64."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(len(mixture.means), (batch,), generator=generator)
    noise = torch.randn(batch, *mixture.shape, generator=generator, dtype=torch.float64)
    return mixture.means[chosen] + noise * (mixture.deviations[chosen, None] ** 2 + sigma**2).sqrt()


@pytest.mark.parametrize("sigma", SIGMAS)
def test_in_one_dimension_it_is_the_integral(sigma: float) -> None:
    """Mean of x0 under p(x0) N(x; x0, sigma^2), summed over a fine grid around each component."""
    mixture = GaussianMixture(torch.tensor([[-1.0], [0.3], [2.0]]), torch.tensor([0.1, 0.3, 0.2]), torch.ones(3) / 3)
    mixture = in_float64(mixture)
    x = torch.cat([near_the_data(mixture, sigma, 20), torch.tensor([[-4.0], [0.0], [5.0]]).double()])
    grid = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    prior = torch.stack(
        [
            w * torch.exp(-(((grid - m) / d) ** 2) / 2) / d
            for m, d, w in zip(mixture.means[:, 0], mixture.deviations, mixture.weights, strict=True)
        ]
    ).sum(0)
    expected = []
    for value in x[:, 0]:
        exponent = -(((value - grid) / sigma) ** 2) / 2 + prior.clamp_min(1e-300).log()
        weight = torch.exp(exponent - exponent.max())
        expected.append((grid * weight).sum() / weight.sum())
    found = mixture.denoise(x, torch.full((len(x),), sigma, dtype=torch.float64))
    torch.testing.assert_close(found[:, 0], torch.stack(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("dimension", [1, 2, 16, 64])
def test_it_is_the_score_of_the_noised_density(dimension: int, sigma: float) -> None:
    """Tweedie: D = x + sigma^2 grad log p, the density from torch.distributions."""
    mixture = in_float64(checkpoint(dimension))
    x = near_the_data(mixture, sigma, 8).requires_grad_()
    spread = (mixture.deviations**2 + sigma**2).sqrt()[:, None].expand(-1, dimension)
    components = torch.distributions.Independent(torch.distributions.Normal(mixture.means, spread), 1)
    noised = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(mixture.weights), components)
    (score,) = torch.autograd.grad(noised.log_prob(x).sum(), x)
    found = mixture.denoise(x.detach(), torch.full((8,), sigma, dtype=torch.float64))
    torch.testing.assert_close(found, x.detach() + sigma**2 * score, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_points_far_away_stay_finite(sigma: float) -> None:
    far = torch.tensor([[1e4, -1e4, 0.0, 1e3]])
    assert bool(checkpoint(4).denoise(far, torch.tensor([sigma]), None).isfinite().all())


@pytest.mark.parametrize("dimension", [1, 2, 7, 100])
def test_any_dimension(dimension: int) -> None:
    mixture = checkpoint(dimension)
    noise, cond = mixture.draw(torch.Generator().manual_seed(0), 3)
    assert tuple(mixture.shape) == (dimension,) and noise.shape == (3, dimension) and cond is None
    assert mixture.denoise(noise, torch.full((3,), 80.0), cond).shape == noise.shape


@pytest.mark.parametrize(("dimension", "components"), [(0, 1), (1, 0), (-1, 8)])
def test_a_mixture_of_nothing_is_refused(dimension: int, components: int) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        checkpoint(dimension, components)


def test_draws_have_the_deviation_of_the_first_sigma() -> None:
    noise, _ = checkpoint(5).draw(torch.Generator().manual_seed(3), 1000)
    assert float(noise.std()) == pytest.approx(80, rel=0.05)


def test_the_schedule_is_that_of_edm() -> None:
    sigmas = checkpoint().schedule(6)
    fractions = torch.arange(7, dtype=torch.float64) / 6
    expected = (80 ** (1 / 7) + fractions * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(sigmas, expected, rtol=1e-12, atol=0)


def test_the_mixture_is_the_same_each_time_and_has_about_unit_variance() -> None:
    first, again = checkpoint(16), checkpoint(16)
    assert torch.equal(first.means, again.means) and first.fingerprint == again.fingerprint
    assert math.isclose(float(first.weights.sum()), 1, rel_tol=1e-6)
    assert 0.5 < float((first.means.var(0, unbiased=False) + (first.deviations**2).mean()).mean()) < 2


@pytest.mark.parametrize(
    "changed",
    [
        GaussianMixture(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0.2, 0.4]), torch.tensor([0.5, 0.5])),
        GaussianMixture(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0.3, 0.3]), torch.tensor([0.1, 0.9])),
        GaussianMixture(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0.3, 0.3]), torch.tensor([0.5, 0.5])),
    ],
    ids=["deviations", "weights", "means"],
)
def test_another_mixture_has_another_fingerprint(changed: GaussianMixture) -> None:
    """Its name in the cache of targets: two models must not share one."""
    means = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    mixture = GaussianMixture(means, torch.tensor([0.3, 0.3]), torch.tensor([0.5, 0.5]))
    assert mixture.fingerprint != changed.fingerprint
