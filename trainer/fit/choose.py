"""`--method` and the options that go with it -> a fit."""

import copy
import math
from collections.abc import Sequence

from dyweight import Solver

from ..losses.endpoint import EndpointLoss
from ..losses.features import loss_features
from ..options.distill import DistillOptions
from ..pairs.pairs import Pairs
from ..run.network import Network
from . import Fit
from .adam import Adam, AdamSettings, default_learning_rate
from .budget import FIRST_PART, Budget
from .gauss_newton import GaussNewton
from .guided import GuidedFit
from .settings import GaussNewtonSettings
from .two_starts import TwoStarts

SMALL_LATENT = 64
RESIDUALS = 100
"""Of a small latent for each number of the solver: its endpoints hold little and have heavy tails. Of any with learned
guidance, which has twice the numbers."""


def is_small(network: Network) -> bool:
    """Whether an endpoint holds so few numbers that a fit needs more pairs, and more calls."""
    return math.prod(network.checkpoint.shape) < SMALL_LATENT


def make_fit(
    options: DistillOptions,
    solver: Solver,
    network: Network,
    pairs: Pairs,
    calls: int,
    starts: Sequence[Solver] = (),
    blocks: int = 1,
) -> Fit:
    """The fit that the options describe, ready to run or to restore.

    Of gauss-newton, calls: what it may still make. starts: solvers to begin with, beside the usual start. blocks: of
    pairs to begin with or more, as the calls allow.
    """
    features = loss_features(options.loss, network.checkpoint, lambda: pairs.deviation)
    loss = EndpointLoss(options.loss, options.huber_delta, features)
    if options.fitted_by == "adam":
        rate = options.learning_rate or default_learning_rate(solver)
        iterations = options.iterations or pairs.training_blocks
        return Adam(
            solver, network, pairs, loss, AdamSettings(iterations, rate, options.recompute, options.initial == "auto")
        )
    assert not solver.reads_samples  # the options see to it

    def gauss_newton(own: Solver, calls: int, lowered: bool, starts: Sequence[Solver] = ()) -> GaussNewton:
        budget = budget_for(options, [solver], network, pairs, calls, blocks)
        settings = GaussNewtonSettings(budget, options.iterations, lowered, options.difference_step)
        return GaussNewton(own, network, pairs, loss, settings, starts)

    lowered = options.initial == "auto"
    if solver.guided:
        guided = options.unconditional_calls or len(solver.guided)
        return GuidedFit(solver, guided, calls, gauss_newton, lowered)
    worth = TwoStarts.worth(solver.network_calls, FIRST_PART[options.effort])
    if worth and lowered and not starts and options.iterations is None:
        return TwoStarts(lambda lowered: gauss_newton(copy.deepcopy(solver), calls, lowered))
    return gauss_newton(solver, calls, lowered, starts)


def budget_for(
    options: DistillOptions, solvers: Sequence[Solver], network: Network, pairs: Pairs, calls: int, blocks: int = 1
) -> Budget:
    """The budget of gauss-newton, for one solver or for several that begin with the same pairs."""
    if is_small(network) or any(solver.guided for solver in solvers):
        numbers = max(sum(number.numel() for number in solver.numbers()) for solver in solvers)
        enough = math.ceil(RESIDUALS * numbers / math.prod(network.checkpoint.shape))
        blocks = max(blocks, pairs.targets.block_count(enough))
    begin_with = None if options.pairs is None else pairs.targets.block_count(options.pairs)
    return Budget(calls, FIRST_PART[options.effort], begin_with, blocks)
