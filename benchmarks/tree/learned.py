"""Schedules fitted by the trainer's Adam to the teacher's endpoints: one for all samples, and phi's for each."""

from dataclasses import dataclass

from torch import Tensor

from dyweight import Indis
from trainer.compare.endpoint_error import endpoint_error
from trainer.fit.adam import Adam, AdamSettings
from trainer.losses.endpoint import EndpointLoss
from trainer.losses.features import Latent
from trainer.pairs.pairs import Pairs
from trainer.run.network import Network

SHARED_RATE, PHI_RATE = 1e-2, 4e-3
POWERS = (1.0, 2.0)
"""Initial shared schedules: the even one raised to these powers, so that the second is denser at low sigmas."""


@dataclass(frozen=True)
class Iterations:
    """Numbers of iterations of Adam, each on one batch."""

    shared: int = 100
    phi: int = 600


def best_shared(network: Network, pairs: Pairs, steps: int, iterations: Iterations, seed: int) -> Indis:
    """The best of several starts on the training pairs: INDIS without its instance condition."""
    fits = [
        _fitted(network, pairs, _even(network, steps, power), False, iterations.shared, SHARED_RATE, seed)
        for power in POWERS
    ]
    features = Latent(pairs.deviation)
    return min(fits, key=lambda fit: endpoint_error(network, pairs.training, fit, features))


def phi(network: Network, pairs: Pairs, shared: Indis, iterations: Iterations, seed: int) -> Indis:
    """INDIS with timesteps only, starting as the best shared schedule."""
    sigmas = shared.plan().sigmas.detach()
    return _fitted(network, pairs, sigmas, True, iterations.phi, PHI_RATE, seed)


def _even(network: Network, steps: int, power: float) -> Tensor:
    even = network.checkpoint.schedule(steps)
    return even[0] * (even / even[0]) ** power


def _fitted(
    network: Network, pairs: Pairs, sigmas: Tensor, instance: bool, iterations: int, rate: float, seed: int
) -> Indis:
    shape = tuple(network.checkpoint.shape)
    solver = Indis(sigmas, shape, base="euler", instance=instance, shift_factors=False, seed=seed)
    loss = EndpointLoss("l2", features=Latent(pairs.deviation))
    for _ in Adam(solver, network, pairs, loss, AdamSettings(iterations, rate, recomputed=False)).run():
        pass
    return solver.requires_grad_(False)
