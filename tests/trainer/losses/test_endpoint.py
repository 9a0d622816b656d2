"""The losses: their formulas, and that their least-squares form has their gradient."""

import math
from dataclasses import replace

import pytest
import torch

from trainer.losses.endpoint import EndpointLoss

LOSSES = [EndpointLoss(), EndpointLoss("l1"), EndpointLoss("huber", 0.5), EndpointLoss("huber", 3.0)]


def residuals() -> torch.Tensor:
    """Small and large, of both signs, none within l1's rounded tip."""
    size = torch.logspace(-2, 2, 50, dtype=torch.float64)
    return torch.cat([size, -size]).reshape(4, 25)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (EndpointLoss(), (0.25 + 4 + 0) / 3),
        (EndpointLoss("l1"), (0.5 + 2 + 0) / 3),
        (EndpointLoss("huber", 1.0), (0.25 + (2 * 2 - 1) + 0) / 3),
        (EndpointLoss("huber", 0.1), (0.1 - 0.01 + 0.4 - 0.01 + 0) / 3),
    ],
)
def test_values_are_those_of_the_formulas(loss: EndpointLoss, expected: float) -> None:
    assert float(loss.value(torch.tensor([-0.5, 2.0, 0.0]).double())) == pytest.approx(expected, rel=1e-12)


def test_huber_is_l2_inside_and_meets_its_line_smoothly() -> None:
    loss, step = EndpointLoss("huber", 1.5), 1e-6
    inside = torch.linspace(-1.5, 1.5, 7).double()
    assert float(loss.value(inside)) == pytest.approx(float((inside**2).mean()))
    below, at, above = (float(loss.value(torch.tensor(1.5 + d, dtype=torch.float64))) for d in (-step, 0, step))
    assert (at - below) / step == pytest.approx(3, rel=1e-4)
    assert (above - at) / step == pytest.approx(3, rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_weighted_squares_have_the_gradient_of_the_loss(loss: EndpointLoss) -> None:
    residual = residuals().requires_grad_()
    (gradient,) = torch.autograd.grad(loss.value(residual), residual)
    weights = loss.weights(residual.detach(), residual.shape[1])
    torch.testing.assert_close(2 * weights * residual.detach() / residual.numel(), gradient, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("sketched", [1, 7])
def test_a_pair_beyond_the_limit_counts_as_huber_of_the_whole_and_so_do_its_weights(
    loss: EndpointLoss, sketched: int
) -> None:
    residual = residuals().requires_grad_()
    count = sketched * residual.shape[1]
    of_pairs = loss.of_pairs(residual, count)
    assert of_pairs.mean().item() == pytest.approx(loss.value(residual).item() / sketched)
    assert torch.equal(loss.limited(of_pairs), of_pairs), "no limit, no change"
    limit = float(of_pairs.detach().sort().values[1:3].mean())
    limiting = replace(loss, pair_limit=limit)
    limited = limiting.limited(of_pairs)
    near, far = of_pairs <= limit, of_pairs > limit
    assert int(near.sum()) == int(far.sum()) == 2
    assert torch.equal(limited[near], of_pairs[near])
    torch.testing.assert_close((limited[far] + limit) ** 2, 4 * limit * of_pairs[far])
    assert bool((limited <= of_pairs).all())
    (gradient,) = torch.autograd.grad(limited.sum(), residual)
    weights = limiting.weights(residual.detach(), count)
    torch.testing.assert_close(2 * weights * residual.detach() / count, gradient, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("limit", [1e-10, 1.0, math.inf])
def test_weights_are_finite_and_above_zero_everywhere(loss: EndpointLoss, limit: float) -> None:
    residual = torch.tensor([[0.0], [-0.0], [1e-30], [1e30]], dtype=torch.float64)
    weights = replace(loss, pair_limit=limit).weights(residual, 1)
    assert bool((weights.isfinite() & (weights > 0)).all())


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_zero_only_at_zero_and_even(loss: EndpointLoss) -> None:
    assert float(loss.value(torch.zeros(3))) == 0
    residual = residuals()
    assert float(loss.value(residual)) == pytest.approx(float(loss.value(-residual)))
    assert float(loss.value(residual)) > 0
