"""`--method` and the options that go with it -> a fit."""

import math

from dyweight import Solver

from ..losses.endpoint import EndpointLoss
from ..losses.features import loss_features
from ..options.distill import DistillOptions
from ..pairs.pairs import Pairs
from ..run.network import Network
from . import Fit
from .adam import Adam, AdamSettings, default_learning_rate
from .budget import PROBED, Budget, calls_of
from .gauss_newton import GaussNewton, GaussNewtonSettings
from .judge import judging_calls

SMALL_LATENT = 64
RESIDUALS = 100
"""Of a small latent for each number of the solver: its endpoints hold little and have heavy tails."""


def budget_of(options: DistillOptions, solver: Solver, pairs: Pairs) -> Budget:
    """The calls of the fit itself: what the effort or `--calls` leaves beside the judging."""
    elements = math.prod(pairs.targets.network.checkpoint.shape)
    small = elements < SMALL_LATENT
    calls = options.calls or calls_of(options.effort, solver.network_calls) * (3 if small else 1)
    calls -= judging_calls(solver, pairs) + pairs.targets.network.total  # a look at the network may come before
    blocks = None if options.pairs is None else pairs.targets.block_count(options.pairs)
    numbers = sum(number.numel() for number in solver.numbers())
    fewest = pairs.targets.block_count(math.ceil(RESIDUALS * numbers / elements)) if small else 1
    return Budget(calls, PROBED[options.effort], blocks, fewest)


def make_fit(options: DistillOptions, solver: Solver, network: Network, pairs: Pairs) -> Fit:
    """The fit that the options describe, ready to run or to restore."""
    features = loss_features(options.loss, network.checkpoint, lambda: pairs.deviation)
    loss = EndpointLoss(options.loss, options.huber_delta, features)
    if options.method == "adam":
        rate = options.learning_rate or default_learning_rate(solver)
        iterations = options.iterations or pairs.training_blocks
        return Adam(
            solver, network, pairs, loss, AdamSettings(iterations, rate, options.recompute, options.initial == "auto")
        )
    budget, lowered = budget_of(options, solver, pairs), options.initial == "auto"
    settings = GaussNewtonSettings(budget, options.iterations, lowered, options.difference_step)
    return GaussNewton(solver, network, pairs, loss, settings)
