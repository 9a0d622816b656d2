"""`--evaluations`: how many steps, and how many of them guided, make the best of a number of network evaluations."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..fitting import Fitting
from ..options.distill import DistillOptions
from ..pairs.targets import derived_seed
from ..run.cluster import Cluster
from ..run.network import Network

CANDIDATES = 4
"""From every step guided on, each with one step more and one unconditional call less."""
TRYING_PART = 0.5
"""Of `--calls`, for all candidates; by `--effort` each gets a draft."""
JUDGING_PAIRS = 16


def with_steps(
    options: DistillOptions,
    network: Network,
    cluster: Cluster,
    cache: Path | None,
    told: Callable[[str], object] = lambda line: None,
) -> DistillOptions:
    """The options with the steps and unconditional calls whose draft ends lowest, on pairs of their own.

    told: called with a line on each draft. Options without `evaluations` come back as they are.
    """
    total = options.evaluations
    if total is None:
        return options
    fewest = -(-total // 2)
    asking = range(fewest, min(fewest + CANDIDATES, total))
    calls = None if options.calls is None else int(TRYING_PART * options.calls) // len(asking)
    errors: dict[DistillOptions, float] = {}
    for rows in asking:
        chosen = replace(
            options,
            evaluations=None,
            steps=rows + int(options.analytic_first_step),
            unconditional_calls=total - rows,
            calls=None if options.calls is None else int((1 - TRYING_PART) * options.calls),
        )
        draft = replace(chosen, effort="draft", calls=calls, validation_pairs=JUDGING_PAIRS, report=None, resume=False)
        fitting = Fitting(replace(draft, seed=derived_seed(options.seed, "evaluations")), network, cluster, cache)
        fitting.begin()
        for _ in fitting.run():
            pass
        fitting.judge()
        errors[chosen] = fitting.fitted
        told(f"{total} evaluations, {chosen.steps} steps, {total - rows} guided: endpoint error {fitting.fitted:.5f}")
    return min(errors, key=errors.__getitem__)
