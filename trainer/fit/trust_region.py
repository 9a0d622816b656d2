"""The step of a fit: least squares, with the network's inputs moved a little only, and within the network's range."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LeastSquares:
    """The quadratic model of the loss around a vector, mean over all residuals."""

    curvature: Tensor
    """[count, count] J^T W J"""
    gradient: Tensor
    """[count] J^T W r"""
    movement: Tensor
    """[count, count]: step^T movement step is how far the network's inputs move, in noise levels, squared."""

    begun: Tensor
    """[count] linear part of the movement, where some has been moved already."""
    moved_before: float

    def promised(self, step: Tensor) -> float:
        return float(-2 * self.gradient @ step - step @ self.curvature @ step)

    def moved(self, step: Tensor) -> float:
        squares = self.moved_before**2 + 2 * self.begun @ step + step @ self.movement @ step
        return float(squares.clamp_min(0)) ** 0.5

    def step(self, radius: float, constraints: Tensor, bounds: Tensor) -> Tensor:
        """The least loss among steps with constraints @ step <= bounds that move at most `radius`."""
        low, high = 1e-12, 1e12
        scale = float(torch.diagonal(self.curvature).sum() / torch.diagonal(self.movement).sum().clamp_min(1e-300))
        step = self._damped(low * scale, constraints, bounds)
        if self.moved(step) <= radius:
            return step
        for _ in range(60):
            middle = (low * high) ** 0.5
            step = self._damped(middle * scale, constraints, bounds)
            low, high = (middle, high) if self.moved(step) > radius else (low, middle)
            if high / low < 1.05:
                break
        return self._damped(high * scale, constraints, bounds)

    def _damped(self, damping: float, constraints: Tensor, bounds: Tensor) -> Tensor:
        own = torch.diagonal(self.curvature)
        used = own > 0
        H = self.curvature + damping * self.movement + torch.diag(own * 1e-9 + (~used) * 1.0)
        factor = torch.linalg.cholesky(H + torch.diag(torch.diagonal(H) * 1e-10))
        free = -torch.cholesky_solve((self.gradient + damping * self.begun)[:, None], factor)[:, 0]
        if bool((constraints @ free <= bounds).all()):
            return free
        inverse = torch.cholesky_solve(constraints.T, factor)
        M = constraints @ inverse
        excess = constraints @ free - bounds
        mu = torch.zeros(len(bounds), dtype=H.dtype)
        for _ in range(300):  # Hildreth's method on the dual
            before = mu.clone()
            for i in range(len(mu)):
                if M[i, i] > 0:
                    mu[i] = torch.clamp(mu[i] + (excess[i] - M[i] @ mu) / M[i, i], min=0)
            if float((mu - before).abs().max()) <= 1e-9 * float(mu.abs().max()):
                break
        return free - inverse @ mu
