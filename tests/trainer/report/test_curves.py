import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from matplotlib import _pylab_helpers
from matplotlib.figure import Figure
from torch import Tensor

from dyweight import DyWeight, schedules
from tests.trainer.report.pictures import picture
from trainer.fit import Progress
from trainer.report import curves


def history(lines: int) -> list[Progress]:
    return [Progress(i, 0.05 * 0.9**i, 0.06 * 0.9**i if i % 3 == 0 else math.nan, 900 * (i + 1)) for i in range(lines)]


def trained(steps: int, order: int, analytic: bool = False, schedule: Tensor | None = None) -> DyWeight:
    """A solver with every number off its start."""
    solver = DyWeight(
        schedules.polynomial(steps) if schedule is None else schedule, order, analytic_first_step=analytic
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        solver.weights += 0.01 * torch.randn(solver.weights.shape, generator=generator) * (solver.weights != 0)
        solver.time_scale[int(analytic) :] += 0.05 * torch.randn(steps - int(analytic), generator=generator)
    return solver.requires_grad_(False)


@pytest.mark.parametrize(
    "lines",
    [
        history(200),
        history(2),
        history(1),
        [],
        [Progress(0, math.nan, math.nan, 10), Progress(1, 0.0, math.inf, 20)],
        [Progress(0, 1e12, math.nan, 10), Progress(1, 1e-7, 2e-7, 20_000_000)],
    ],
    ids=["many", "two", "one", "none", "nothing to draw", "diverged first"],
)
def test_convergence_writes_a_picture(lines: list[Progress], tmp_path: Path) -> None:
    curves.convergence(lines, tmp_path / "picture.png", "digits, 5 steps")
    picture(tmp_path / "picture.png")


def test_convergence_joins_what_was_measured_and_marks_the_best(drawn: list[Figure]) -> None:
    curves.convergence(history(10), "unused")
    _, validation, best = drawn[0].axes[0].lines
    assert list(validation.get_xdata()) == [900, 3600, 6300, 9000]
    assert list(best.get_xdata()) == [9000]
    assert drawn[0].axes[0].get_yscale() == "log"


ERRORS = {
    "euler": {n: 0.5 / n for n in range(3, 11)},
    "heun": {n: 2.0 / n for n in (3, 5, 7, 9)},
    "ipndm": {n: 3.0 / n**4 for n in range(3, 11)},
    "unstable": {3: 1e30, 4: math.inf, 5: math.nan, 6: 50.0},
}


@pytest.mark.parametrize(
    "errors, highlighted",
    [
        (ERRORS, {3: 0.01, 5: 0.0004, 7: 1e-5}),
        ({"euler": {4: 0.1}}, {4: 0.05}),
        ({"unstable": {4: math.inf, 5: math.nan}}, {5: 0.1}),
        (
            {f"solver {i}": {n: 1.0 / (n + i) for n in range(1, 41)} for i in range(12)},
            {n: 1 / (n + 14) for n in range(1, 30)},
        ),
        (ERRORS, {}),
        ({}, {5: 0.1}),
        ({}, {}),
        ({"exact": {3: 0.0}}, {3: 0.0}),
    ],
    ids=["usual", "one sampler", "all diverged", "crowded", "no learned", "only learned", "nothing", "no error"],
)
def test_error_over_steps_writes_a_picture(
    errors: dict[str, dict[int, float]], highlighted: dict[int, float], tmp_path: Path
) -> None:
    curves.error_over_steps(errors, tmp_path / "picture.png", highlighted, "DyWeight", "a title")
    picture(tmp_path / "picture.png")


def test_every_solver_has_a_look_of_its_own_and_its_orders_differ_by_their_lines() -> None:
    names = [*(f"solver {i}" for i in range(40)), *(f"ipndm:{order}" for order in (1, 2, 3, 4))]
    look = curves.styles(names)
    assert len({(style["color"], style["marker"]) for style in look.values()}) == 41
    assert len({style["linestyle"] for name, style in look.items() if ":" in name}) == 4
    assert {style["linestyle"] for name, style in look.items() if ":" not in name} == {"-"}


def test_diverged_solvers_do_not_stretch_the_axis(drawn: list[Figure]) -> None:
    curves.error_over_steps(ERRORS, "unused", {5: 0.0015}, "DyWeight")
    axes = drawn[0].axes[0]
    low, high = axes.get_ylim()
    assert high == pytest.approx(3 * ERRORS["ipndm"][3]) and 1e-5 < low < 3e-4
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "unstable (off the scale)" in labels and "DyWeight" in labels and "euler" in labels


def test_a_line_leads_to_the_calls_the_best_handcrafted_solver_needs(drawn: list[Figure]) -> None:
    # ipndm has 0.00073 at 8 calls and 0.00046 at 9, 0.0003 at 10.
    curves.error_over_steps(ERRORS, "unused", {4: 0.0005, 5: 0.0001}, "DyWeight")
    axes = drawn[0].axes[0]
    reading = [
        line.get_xdata() for line in axes.lines if line.get_color() == curves.WARM and len(line.get_xdata()) == 3
    ]
    assert [list(line) for line in reading] == [[4, 9, 9], [5, 10.4, 10.4]]
    assert [text.get_text() for text in axes.texts] == ["same error\nat 9 calls"]


@pytest.mark.parametrize("samplers, dimension", [(0, 2), (1, 1), (2, 16), (5, 2), (8, 2)])
def test_scatter_writes_a_picture(samplers: int, dimension: int, tmp_path: Path) -> None:
    teacher = torch.randn(50, dimension, generator=torch.Generator().manual_seed(0))
    others = {f"sampler {i}": teacher * (1 + 10.0**i) for i in range(samplers)}
    curves.scatter({"teacher": teacher, **others}, tmp_path / "picture.png", "gmm")
    picture(tmp_path / "picture.png")


def test_scatter_panels_share_the_teachers_axes(drawn: list[Figure]) -> None:
    teacher = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    curves.scatter({"teacher": teacher, "a": teacher, "diverged": teacher * 1e6}, "unused")
    first, second = drawn[0].axes
    assert first.get_xlim() == second.get_xlim() and first.get_xlim()[1] < 1.5
    assert first.get_title(loc="left") == "a"


def test_pictures_from_threads_leave_no_global_figures(tmp_path: Path) -> None:
    lines = history(10)
    paths = [tmp_path / f"{i}.png" for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda path: curves.convergence(lines, path), paths))
    assert len({path.read_bytes() for path in paths}) == 1
    assert not _pylab_helpers.Gcf.figs
