"""Whether more steps lead to an endpoint at all: those of models distilled for few steps go on moving."""

from dyweight import baselines

from ..pairs.targets import Draw
from ..run.errors import CheckpointError
from ..run.network import Network
from .endpoint_error import endpoint

STEPS = (5, 17, 35)
MOST = 0.3
"""Of the squared distance from 5 steps to 35, what may be left at 17. First order leaves 0.03; the tiny FLUX, whose
answers tremble with sigma, 0.10 to 0.20; an endpoint that moves by the same with each step 0.36."""


def refuse_distilled(network: Network, block: Draw) -> None:
    """CheckpointError where a multistep solver with more steps does not settle.

    The network calls of one sample with each of STEPS.
    """
    schedule = network.checkpoint.schedule
    few, some, many = (endpoint(network, block, baselines.plan("ipndm", schedule(steps))).double() for steps in STEPS)
    whole, left = float((few - many).square().sum()), float((some - many).square().sum())
    if left > MOST * whole:
        changes = (left / max(whole, 1e-300)) ** 0.5
        raise CheckpointError(
            "take the undistilled model: the picture of this one goes on changing with more steps, from {some} to "
            "{many} by {changes} of what it changes from {few}, as those of turbo models do; so there is nothing to "
            "come close to, and such a model has its own few steps",
            **dict(zip(("few", "some", "many"), STEPS, strict=True)),
            changes=f"{changes:.2g}",
        )
