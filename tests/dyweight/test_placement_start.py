"""A schedule that starts above the solver's own: how far is still the solver's."""

import pytest

from dyweight import DyWeight, schedules
from dyweight.baselines import plan as handcrafted
from dyweight.placement import place

OWN = schedules.polynomial(6, 0.03, 15.0)


@pytest.mark.parametrize(("start", "rule"), [(15.0, "whole"), (18.0, "whole"), (44.9, "whole"), (45.1, "untrained")])
def test_the_learned_rows_run_up_to_three_times_the_own_start(start, rule):
    assert place(DyWeight(OWN), schedules.polynomial(6, 0.03, start)).rule == rule


@pytest.mark.parametrize("steps", [3, 6, 9])
def test_far_above_any_number_of_steps_runs_untrained(steps):
    sigmas = schedules.polynomial(steps, 0.002, 80.0)
    placement = place(DyWeight(OWN), sigmas)
    assert placement.rule == "untrained" and placement.plan.rows == steps
    assert bool((placement.plan.gains == handcrafted("ipndm", sigmas, 3 if steps > 6 else 2).gains).all())
