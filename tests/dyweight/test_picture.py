"""The picture of a solver: of every family, with the numbers that it holds, and nothing beyond its margin."""

from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from dyweight import (
    DyWeight,
    FreeTable,
    Indis,
    InstanceDyWeight,
    LearnedSchedule,
    SolverFile,
    SolverSet,
    picture,
    schedules,
)

FLOW = schedules.flow(5, 3.0)
SOLVERS = {
    "dyweight": lambda sigmas: DyWeight(sigmas, 3),
    "analytic": lambda sigmas: DyWeight(sigmas, 2, "query", analytic_first_step=True),
    "free-table": FreeTable,
    "learned-schedule": lambda sigmas: LearnedSchedule(sigmas, "heun"),
    "indis": lambda sigmas: Indis(sigmas, (4, 8, 8)),
    "instance-dyweight": lambda sigmas: InstanceDyWeight(DyWeight(sigmas, 3), (4, 8, 8)),
}
each = pytest.mark.parametrize("kind", SOLVERS)


def made(kind, sigmas=FLOW, size=0.05):
    """A solver whose numbers are a little off their start."""
    solver = SOLVERS[kind](sigmas).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for number in solver.numbers():
        number += size * torch.randn(number.shape, generator=generator).to(number) * (number != 0)
    return solver


def shown(solver):
    """Heading -> label -> values, of what the picture shows as numbers."""
    return {heading: {row.label: row for row in rows} for heading, rows in solver.panels(solver.pictured())}


@each
@pytest.mark.parametrize("sigmas", [FLOW, schedules.polynomial(3), schedules.flow(30)], ids=["flow", "edm", "30"])
def test_it_is_as_wide_as_ever_and_nothing_is_drawn_into_the_margin(kind, sigmas):
    image = picture.picture(SolverFile(made(kind, sigmas), {"model": "a long name " * 20, "cfg": 7.5}))
    assert image.width == picture.WIDTH and image.height > 400
    paper = image.getpixel((0, 0))
    inside = image.crop((16, 16, image.width - 16, image.height - 16))
    frame = Image.new("RGB", image.size, paper)
    frame.paste(inside, (16, 16))
    assert frame.tobytes() == image.tobytes()
    assert len(set(inside.get_flattened_data() if hasattr(inside, "get_flattened_data") else inside.getdata())) > 20


@each
def test_a_row_has_a_number_for_each_row_of_the_table(kind):
    solver = made(kind)
    for rows in shown(solver).values():
        for row in rows.values():
            assert len(row.values) == len(row.usual) == len(row.used) == solver.rows
            assert not row.values.requires_grad and bool(torch.isfinite(row.values[torch.tensor(row.used)]).all())


@each
def test_untrained_nothing_is_tinted(kind):
    for rows in shown(made(kind, size=0.0)).values():
        for row in rows.values():
            used = torch.tensor(row.used)
            torch.testing.assert_close(row.values[used].double(), row.usual[used].double(), rtol=1e-6, atol=1e-9)


def test_the_numbers_are_the_solvers():
    solver = made("analytic")
    weights, sums = shown(solver).values()
    assert list(weights) == ["newest slope", "1 before"]
    assert torch.equal(weights["1 before"].values, solver.weights[:, 1]) and not weights["1 before"].used[0]
    assert torch.equal(sums["sum"].values, solver.weights.sum(1))
    assert torch.equal(sums["time scale"].values, solver.time_scale) and not sums["time scale"].used[0]


def test_a_schedule_of_each_noise_is_shown_with_its_spread():
    solver = made("indis")
    torch.nn.init.normal_(solver.phi.leave.weight)
    plan = solver.pictured()
    ((_, (mean, spread)),) = solver.panels(plan)
    torch.testing.assert_close(mean.values, plan.query_sigmas.mean(0))
    assert plan.batch == 64 and float(spread.values.max()) > 1


def test_a_last_level_below_0_is_left_out_of_a_log_axis():
    solver = DyWeight(torch.cat([schedules.log_snr(5, 0.03, 14.6), torch.zeros(1)]), 3).requires_grad_(False)
    solver.weights[-1, 0] += 0.5
    assert float(solver.plan().sigmas[-1]) < 0
    assert picture.picture(SolverFile(solver, {})).height > 400


def test_the_png_is_the_picture_with_the_name_of_the_file():
    named, other = (SolverFile(made("dyweight"), {}, Path("models") / name) for name in ("one.st", "two.st"))
    with Image.open(BytesIO(picture.png(named))) as image:
        assert image.format == "PNG" and image.convert("RGB").tobytes() == picture.picture(named).tobytes()
    assert picture.png(named) == picture.png(named) != picture.png(other)


def drawn_of(steps, provenance=None):
    """The picture of a whole set."""
    solvers = SolverSet(made("dyweight", schedules.flow(n, 3.0)) for n in steps)
    return picture.picture(SolverFile(solvers, provenance or {}))


@pytest.mark.parametrize("steps", [(1, 2), (3, 5, 7), tuple(range(3, 13)), (5, 300)])
def test_a_set_is_drawn_as_a_whole_and_nothing_leaves_the_picture(steps):
    errors = {str(n): {"endpoint_error_before": 1 / n, "endpoint_error_after": 0.1 / n} for n in steps}
    plain, image = drawn_of(steps), drawn_of(steps, {"model": "a long name " * 20, "members": errors})
    assert image.width == plain.width == picture.WIDTH and image.height > plain.height > 400
    frame = Image.new("RGB", image.size, image.getpixel((0, 0)))
    frame.paste(image.crop((16, 16, image.width - 16, image.height - 16)), (16, 16))
    assert frame.tobytes() == image.tobytes()


def test_each_solver_of_a_set_has_its_line():
    assert drawn_of((3, 5)).tobytes() != drawn_of((3, 4, 5)).tobytes() != drawn_of((3, 6, 5)).tobytes()
    solvers = SolverSet(made("dyweight", schedules.flow(n, 3.0)) for n in (3, 5))
    alone = picture.picture(SolverFile(solvers.member(3), {}, Path("a.safetensors")))
    assert picture.picture(SolverFile(solvers, {}, Path("a.safetensors")), 3).tobytes() == alone.tobytes()


def test_errors_of_some_members_only_leave_the_others_empty():
    some = drawn_of((3, 5), {"members": {"3": {"endpoint_error_after": 0.25}}})
    assert some.height > drawn_of((3, 5), {"members": {"3": {"endpoint_error_after": "n/a"}}}).height
