"""Whether more steps lead to an endpoint at all: those of models distilled for few steps go on moving."""

from dyweight import baselines

from ..pairs.targets import Block
from ..run.errors import CheckpointError
from ..run.network import Network
from .endpoint_error import endpoint

STEPS = (8, 17, 35)
SLOWEST = 0.7
"""Of the squared distance from 8 to 17 steps: how far 35 may be from 17. First order leaves a quarter."""
UNCHANGED = 1e-8
"""Of an endpoint's square: what is rounding."""


def refuse_distilled(network: Network, block: Block) -> None:
    """CheckpointError where a multistep solver with 35 steps is no nearer to a limit than with 8.

    The network calls of one sample with each of STEPS.
    """
    schedule = network.checkpoint.schedule
    few, some, many = (endpoint(network, block, baselines.plan("ipndm", schedule(steps))).double() for steps in STEPS)
    first, then = float((few - some).square().sum()), float((some - many).square().sum())
    if then > max(SLOWEST * first, UNCHANGED * float(many.square().sum())):
        raise CheckpointError(
            "take the undistilled model: the picture of this one goes on changing from 17 to 35 steps "
            f"({(then / max(first, 1e-300)) ** 0.5:.2g} of what it changes from 8 to 17), as those of turbo models do, "
            "so there is nothing to come close to; such a model has its own few steps"
        )
