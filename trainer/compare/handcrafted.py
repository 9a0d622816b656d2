"""The samplers to compare with: the handcrafted solvers at every order, or a checkpoint's own samplers."""

from collections.abc import Mapping, Sequence
from functools import cache

import dyweight
from dyweight import Plan
from dyweight.baselines import ORDERS
from dyweight.suggest import did_you_mean

from ..checkpoints.protocol import Checkpoint, Rival
from ..run.errors import TrainerError
from ..run.network import Network


def solvers(names: Sequence[str] | None = None) -> dict[str, tuple[str, int]]:
    """Row -> (solver, order): every solver at each of its orders, or those that `--baselines` names.

    names: NAME, at its default order, or NAME:ORDER, which also name the rows. Otherwise rows of solvers with several
    orders are NAME:ORDER. Raises TrainerError.
    """
    if names is None:
        return {f"{n}:{o}" if len(ORDERS[n]) > 1 else n: (n, o) for n in ORDERS for o in ORDERS[n]}
    rows = {}
    for text in names:
        name, colon, order = text.partition(":")
        if name not in ORDERS:
            hint = did_you_mean(name, tuple(ORDERS))
            raise TrainerError(f"--baselines {text}: {hint}The names are {', '.join(ORDERS)}, or NAME:ORDER")
        if colon and order not in map(str, ORDERS[name]):
            raise TrainerError(f"--baselines {text}: the orders of {name} are {', '.join(map(str, ORDERS[name]))}")
        rows[text] = name, int(order) if colon else ORDERS[name][-1]
    return rows


def handcrafted(checkpoint: Checkpoint, network_calls: int, names: Sequence[str] | None = None) -> dict[str, Plan]:
    """The handcrafted solvers that make exactly this many network calls on the checkpoint's schedule, by row.

    A solver with two calls per step is left out if no number of steps gives that number of calls. So is an order whose
    history the steps never fill, since it equals a lower one, unless `names` contains it.
    """
    plans, schedule = {}, cache(checkpoint.schedule)
    for row, (name, order) in solvers(names).items():
        for steps in range(network_calls, 0, -1):
            plan = dyweight.baselines.plan(name, schedule(steps), order)
            if plan.network_calls <= network_calls:
                break
        filled = order <= max(steps, ORDERS[name][0]) or row in (names or ())
        if plan.network_calls == network_calls and filled:
            plans[row] = plan
    return plans


def rivals(network: Network, network_calls: int, names: Sequence[str] | None = None) -> Mapping[str, Plan | Rival]:
    """The samplers to compare with at this many network calls: the checkpoint's own rivals, or `handcrafted`.

    Where the network counts evaluations, they make half as many calls, rounded down. Raises TrainerError for
    an unknown name.
    """
    network_calls //= network.per_call
    if network.checkpoint.rivals is not None:
        return network.checkpoint.rivals(network_calls, names, lambda calls: network.count(calls * network.per_call))
    return handcrafted(network.checkpoint, network_calls, names)
