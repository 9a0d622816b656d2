"""A model is refused whose endpoints go on moving with more steps, and no other."""

import pytest
import torch

from dyweight import schedules
from trainer.checkpoints.load import load_checkpoint
from trainer.compare.convergence import STEPS, refuse_distilled
from trainer.pairs.targets import Block
from trainer.run.errors import CheckpointError
from trainer.run.network import Network


class Drifting:
    """Each call moves the endpoint a little on, as those of models distilled for few steps do."""

    shape, fingerprint = (4, 8), "drifting"

    def __init__(self, step):
        self.step, self.calls = step, 0

    def schedule(self, steps):
        self.calls = 0
        return schedules.flow(steps, shift=1.0)

    def draw(self, generator, batch):
        return torch.randn(batch, *self.shape, generator=generator), None

    def denoise(self, x, sigma, cond):
        self.calls += 1
        return torch.ones_like(x) * self.step * self.calls


def block_of(network):
    noise, cond = network.checkpoint.draw(torch.Generator().manual_seed(0), 1)
    return Block(0, noise, cond, noise)


def test_endpoints_that_move_with_each_step_are_refused():
    network = Network(Drifting(0.1))
    with pytest.raises(CheckpointError, match="take the undistilled model"):
        refuse_distilled(network, block_of(network))
    assert network.total == sum(STEPS)


@pytest.mark.parametrize("made", [Drifting(0.0), "gmm:16"], ids=["constant", "gmm"])
def test_a_model_that_settles_is_taken(made):
    network = Network(load_checkpoint(made) if isinstance(made, str) else made)
    refuse_distilled(network, block_of(network))
