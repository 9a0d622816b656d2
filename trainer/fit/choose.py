"""`--method` and the options that go with it -> a fit."""

import math

from dyweight import Indis, InstanceDyWeight, Solver

from ..losses.endpoint import EndpointLoss
from ..losses.features import loss_features
from ..options.distill import DistillOptions
from ..pairs.pairs import Pairs
from ..run.network import Network
from . import Fit
from .adam import Adam, AdamSettings, default_learning_rate
from .gauss_newton import GaussNewton, GaussNewtonSettings


def make_fit(options: DistillOptions, solver: Solver, network: Network, pairs: Pairs) -> Fit:
    """The fit that the options describe, ready to run or to restore."""
    features = loss_features(options.loss, network.checkpoint, lambda: pairs.deviation)
    loss = EndpointLoss(options.loss, options.huber_delta, features)
    iterations = options.most_iterations(pairs.training_blocks, math.prod(network.checkpoint.shape))
    if options.method == "adam":
        rate = options.learning_rate or default_learning_rate(solver)
        return Adam(
            solver, network, pairs, loss, AdamSettings(iterations, rate, options.recompute, options.initial == "auto")
        )
    assert not isinstance(solver, Indis | InstanceDyWeight)  # the options see to it
    settings = GaussNewtonSettings(iterations, options.difference_step, options.initial == "auto")
    return GaussNewton(solver, network, pairs, loss, settings, options.seed)
