"""The losses: their formulas, and that their least-squares form has their gradient."""

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
    weights = loss.weights(residual.detach())
    torch.testing.assert_close(2 * weights * residual.detach() / residual.numel(), gradient, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_are_finite_and_above_zero_everywhere(loss: EndpointLoss) -> None:
    weights = loss.weights(torch.tensor([0.0, -0.0, 1e-30, 1e30], dtype=torch.float64))
    assert bool((weights.isfinite() & (weights > 0)).all())


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_zero_only_at_zero_and_even(loss: EndpointLoss) -> None:
    assert float(loss.value(torch.zeros(3))) == 0
    residual = residuals()
    assert float(loss.value(residual)) == pytest.approx(float(loss.value(-residual)))
    assert float(loss.value(residual)) > 0
