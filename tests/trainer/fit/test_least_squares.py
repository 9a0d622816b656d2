"""The step of the least-squares problem around a table."""

import torch

from trainer.fit.least_squares import LeastSquares
from trainer.fit.limits import Limits

FREE = Limits(torch.zeros(0, 4, dtype=torch.float64), torch.zeros(0, dtype=torch.float64))


def problem(jacobian, residual, movement):
    """Sums are float64, and what is summed float32."""
    jacobian, residual = jacobian.double(), residual.double()
    return LeastSquares(jacobian.mT @ jacobian, jacobian.mT @ residual, 1.0, movement, 0.0)


def test_a_sum_of_numbers_on_which_nothing_depends_does_not_drift():
    """As that of the logits of a learned schedule: what rounding says about it must not become a step."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        known = torch.randn(4096, 4, generator=generator)
        jacobian = known - known.mean(1, keepdim=True)
        residual = torch.randn(4096, generator=generator)
        step = problem(jacobian, residual, torch.eye(4, dtype=torch.float64) - 0.25).step(1e3, FREE)
        expected = -torch.linalg.pinv(jacobian.double(), rtol=1e-5) @ residual.double()
        assert abs(float(step.mean())) < float(expected.norm())
        torch.testing.assert_close(step - step.mean(), expected, rtol=1e-3, atol=1e-5)


def test_without_limits_a_short_step_is_that_of_the_normal_equations():
    generator = torch.Generator().manual_seed(1)
    jacobian, residual = torch.randn(64, 4, generator=generator), torch.randn(64, generator=generator)
    step = problem(jacobian, residual, torch.eye(4, dtype=torch.float64)).step(1e3, FREE)
    expected = torch.linalg.lstsq(jacobian.double(), -residual.double()[:, None]).solution[:, 0]
    torch.testing.assert_close(step, expected, rtol=1e-5, atol=1e-7)
