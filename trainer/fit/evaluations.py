"""`--evaluations`: how many steps, and how many of them guided, make the best of a number of network evaluations."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..options.distill import DistillOptions
from ..pairs.targets import derived_seed
from ..run.errors import TrainerError

CANDIDATES = 4
"""At most: from every step guided on, each with one step more and one unconditional call less."""
TRYING_PART = 0.5
"""Of `--calls`, for all candidates; by `--effort` each gets a draft."""
JUDGING_PAIRS = 16


def with_steps(
    options: DistillOptions, error_of: Callable[[DistillOptions], float], told: Callable[[str], object]
) -> DistillOptions:
    """The options with the steps, up to theirs, and unconditional calls whose draft ends lowest, on pairs of its own.

    error_of: fits a draft and measures it. told: called with a line on each draft. Options without `evaluations` come
    back as they are.
    """
    total = options.evaluations
    if total is None:
        return options
    if options.add:
        raise TrainerError("--evaluations chooses the steps: give --steps, the most that it may choose, not --add")
    fewest, most = -(-total // 2), options.members[-1] - int(options.analytic_first_step)
    asking = range(fewest, min(most + 1, fewest + CANDIDATES, total))
    own = replace(options, evaluations=None)
    draft = replace(own, effort="draft", seed=derived_seed(options.seed, "evaluations"), validation_pairs=JUDGING_PAIRS)
    if options.calls is not None:
        tried = int(TRYING_PART * options.calls)
        own, draft = replace(own, calls=options.calls - tried), replace(draft, calls=tried // len(asking))
    errors = []
    for rows in asking:
        steps, guided = rows + int(options.analytic_first_step), total - rows
        chosen: dict[str, Any] = {"steps": (steps,), "unconditional_calls": guided}
        chosen["order"] = own.order and min(own.order, steps)
        try:
            error = error_of(replace(draft, **chosen))
        except TrainerError as told_of_draft:
            if options.calls is None or "needed" not in told_of_draft.values:
                raise
            needed = math.ceil(int(str(told_of_draft.values["needed"])) * len(asking) / TRYING_PART)
            raise told_of_draft.with_values(needed=needed, whole=options.calls) from None
        errors.append((error, rows, replace(own, **chosen)))
        told(f"{total} evaluations by {steps} steps, {guided} guided: endpoint error {error:.5f}")
    return min(errors, key=lambda one: one[:2])[2]
