"""Latents as few numbers: what follows the network's answers is inner products, and these keep those."""

import torch
from torch import Tensor

SIZE = 4096
"""Numbers kept of a latent. Inner products are off by about 1 / sqrt(SIZE) of the lengths' product, and a
least-squares problem of a few dozen numbers over many pairs ends within a fraction of a percent of its own optimum
(Clarkson and Woodruff 2013)."""


class Sketch:
    """Count sketch (Charikar, Chen and Farach-Colton 2002): each element is added, with a random sign, to a random
    place. It is linear. Latents of no more than `size` elements stay as they are."""

    def __init__(self, elements: int, size: int = SIZE) -> None:
        self.whole, self.size = elements <= size, min(elements, size)
        self.held = torch.float32 if self.whole else torch.bfloat16
        """Of the directions of maps: rounding of 0.4 % is little beside what a sketch is off."""
        generator = torch.Generator().manual_seed(elements)
        if not self.whole:
            self._place = torch.randint(size, (elements,), generator=generator)
            self._sign = torch.randint(2, (elements,), generator=generator).float() * 2 - 1

    def __call__(self, x: Tensor) -> Tensor:
        """[..., elements] float32 on the CPU -> [..., size]."""
        if self.whole:
            return x.contiguous()  # as a state is that was kept and read again; products depend on it in the last bit
        flat = x.reshape(-1, x.shape[-1])
        sums = flat.new_zeros(len(flat), self.size).index_add_(1, self._place, flat * self._sign)
        return sums.reshape(*x.shape[:-1], self.size)


def coordinates(latents: Tensor, spanning: Tensor) -> Tensor:
    """[n, pairs, at most m] float64, coordinates of latents [n, pairs, elements] float32 in an orthonormal basis of the
    span of [m, pairs, elements], another one for each pair. Inner products of what lies in it stay."""
    basis = torch.linalg.qr(spanning.permute(1, 2, 0))[0]
    own: Tensor = latents.transpose(0, 1) @ basis
    return own.transpose(0, 1).double()
