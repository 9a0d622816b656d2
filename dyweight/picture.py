"""The picture of a solver, for the node and for reports. With Pillow, which ComfyUI has, unlike matplotlib."""

import itertools
import math
import textwrap
from collections.abc import Sequence
from io import BytesIO
from typing import Literal, cast

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .plan import Plan
from .solver_file import SolverFile
from .solvers import Row, Solver

WIDTH, MARGIN, LABEL, ROW, CURVES = 720, 24, 134, 42, 300
"""Narrow, with large letters: a node shows it at half the size."""
MOST_LETTERS = 300
_PAPER, _FIELD, _RULE, _INK, _FAINT = (250, 250, 248), (240, 240, 237), (222, 222, 218), (30, 32, 36), (112, 114, 120)
_SCHEDULE, _RAISED, _LOWERED = (170, 172, 176), (200, 78, 60), (52, 104, 180)
_Point = tuple[float, float]
_Line = Sequence[_Point]


def picture(file: SolverFile, steps: int = 0, answer: str = "") -> Image.Image:
    """What a solver was made for, its numbers step by step, and the noise levels that they lead through.

    steps: which solver of a set; 0 for the only one, or all with a line for each. answer: lines for whoever wants to
    use it, before the numbers, in place of the model's name. Raises ValueError for a solver that is not there.
    """
    if not steps and len(file.solvers.steps) > 1:
        return _of_all(file, answer)
    member = file.member(steps)
    solver, plan = member.solver, member.solver.pictured()
    panels = solver.panels(plan)
    height = 1300 + ROW * sum(2 + len(rows) for _, rows in panels)
    sheet = _Sheet(height, _names("step" if solver.rows == solver.steps else "call", range(1, solver.rows + 1)))
    sheet.facts(file.name, answer or _model(member), [_solver(solver), *_settings(member), *_errors(member)])
    for heading, rows in panels:
        sheet.heading(heading)
        for row in rows:
            sheet.numbers(row)
    what = f"{plan.batch} noises, no prompt" if plan.batch else "noise"
    sheet.heading(f"{what}: grey schedule, black states, red calls")
    _curves(solver, plan, sheet)
    return sheet.cut()


def _of_all(file: SolverFile, answer: str) -> Image.Image:
    """The solvers of a set: a column for each with its errors, and a line for the levels that it leads through."""
    members = [file.member(steps) for steps in file.solvers.steps]
    columns, finest = len(members), members[-1].solver
    sheet = _Sheet(1300, _names("steps", file.solvers.steps))
    sheet.facts(file.name, answer or _model(file), [f"{columns} solvers, one for a number of steps", *_settings(file)])
    known = [[_error(member, which) for member in members] for which in ("before", "after")]
    sheet.heading("endpoint error in %" if any(any(errors) for errors in known) else "numbers of steps")
    for label, errors in zip(("before", "distilled"), known, strict=True):
        values = torch.tensor([100 * (error or 0.0) for error in errors])
        if any(errors):
            sheet.numbers(Row(label, values, values, [error is not None for error in errors]))
    sheet.heading("noise: grey schedule, black states of each")

    def line(solver: Solver, levels: Tensor) -> _Line:
        return [(n * columns / (len(levels) - 1), level) for n, level in enumerate(levels.tolist())]

    states = [line(member.solver, member.solver.pictured().sigmas) for member in members]
    sheet.curves(line(finest, finest.sigmas), states, [])
    return sheet.cut()


def png(file: SolverFile, steps: int = 0) -> bytes:
    """`picture` as a PNG file."""
    content = BytesIO()
    picture(file, steps).save(content, "png")
    return content.getvalue()


def _names(what: str, numbers: Sequence[int]) -> list[str]:
    """Of the columns: `step 3`, or only the number where there are many."""
    if len(numbers) > 6:
        return [f"{n}" for n in numbers]
    return [f"{n} {what}" if what == "steps" else f"{what} {n}" for n in numbers]


def _curves(solver: Solver, plan: Plan, sheet: "_Sheet") -> None:
    """Noise levels: of the schedule, of the states, and where the network is asked; a line for each sample."""
    calls, asked = -(-plan.rows // solver.steps), solver.asked()
    schedule = [(min(n * calls, plan.rows), level) for n, level in enumerate(solver.sigmas.tolist())]
    states = [list(enumerate(levels)) for levels in torch.unique(_by_sample(plan.sigmas), dim=0).tolist()]
    queries = [
        [(n, level) for n, level in enumerate(levels) if asked[n]] for levels in _by_sample(plan.query_sigmas).tolist()
    ]
    sheet.curves(schedule, states, queries)


def _by_sample(values: Tensor) -> Tensor:
    """[n] or [B, n] -> [B, n]."""
    return values.reshape(-1, values.shape[-1])


def _model(file: SolverFile) -> str:
    """A line on the model, where the file names one; values from a file may be of any type."""
    return f"made for {file.provenance['model']}" if file.provenance.get("model") else ""


def _solver(solver: Solver) -> str:
    calls = f", {solver.network_calls} network calls" if solver.network_calls != solver.steps else ""
    about = [f"{solver.family}, {solver.steps} step{'s' if solver.steps > 1 else ''}{calls}, order {solver.order}"]
    about += [f"{solver.evaluations} network evaluations"] if solver.guided else []
    about += [f"{solver.slope} slope", *(["analytic first step"] if solver.analytic_first_step else [])]
    return ", ".join(about)


def _settings(file: SolverFile) -> list[str]:
    """A line on what it was made at, where the file says so."""
    made_for, shape = file.provenance, cast(object, file.provenance.get("shape"))
    known = [f"latent {'x'.join(str(n) for n in shape)}"] if isinstance(shape, list) else []
    values = {"cfg": made_for.get("cfg"), "guidance": made_for.get("guidance"), "shift": made_for.get("shift")}
    known += [f"{name} {value}" for name, value in values.items() if value is not None]
    return [", ".join(known)] if known else []


def _errors(file: SolverFile) -> list[str]:
    before, after = _error(file, "before"), _error(file, "after")
    if before is None or after is None:
        return []
    return [f"endpoint error {before:.4g} before distillation, {after:.4g} after"]


def _error(file: SolverFile, which: Literal["before", "after"]) -> float | None:
    error: object = file.provenance.get(f"endpoint_error_{which}")
    return error if isinstance(error, float) else None


class _Sheet:
    """Paper that is filled from top to bottom, with columns, of which each is a step or a solver."""

    def __init__(self, height: int, columns: Sequence[str]) -> None:
        self._image = Image.new("RGB", (WIDTH, height), _PAPER)
        self._draw = ImageDraw.Draw(self._image)
        self._top, self._columns = MARGIN, columns

    def cut(self) -> Image.Image:
        """The part that is filled."""
        return self._image.crop((0, 0, WIDTH, self._top + MARGIN))

    def facts(self, title: str, answer: str, lines: Sequence[str]) -> None:
        """The head of the sheet: its title, what matters, and the rest."""
        self.text(title, size=32)
        for line in answer.splitlines():
            self.text(line, size=24)
        for line in lines:
            self.text(line, size=20, ink=_FAINT)

    def text(self, text: str, size: int, ink: tuple[int, int, int] = _INK) -> None:
        """Lines as wide as the sheet."""
        font = ImageFont.load_default(size)
        text = textwrap.shorten(text, MOST_LETTERS, placeholder=" …") if " " in text else text[:MOST_LETTERS]
        lines, letters = [text], len(text)
        while letters > 1 and any(font.getlength(line) > WIDTH - 2 * MARGIN for line in lines):
            letters -= 1
            lines = textwrap.wrap(text, letters)
        for line in lines:
            self._draw.text((MARGIN, self._top), line, fill=ink, font=font)
            self._top += round(size * 1.35)

    def heading(self, text: str) -> None:
        """A line of text, then the name of each column, or of every few where they would touch."""
        self._top += 14
        self.text(text, size=22)
        widest = ImageFont.load_default(18).getlength(self._columns[-1]) + 8
        every = math.ceil(widest / (self._x(1) - self._x(0)))
        for n in range(0, len(self._columns), every):
            self._centred(n, self._columns[n], 18, _FAINT)
        self._top += 26

    def numbers(self, row: Row) -> None:
        """Each value on a field that is redder the farther the value is above its usual one."""
        self._draw.text((MARGIN, self._top + 9), row.label, fill=_INK, font=ImageFont.load_default(20))
        columns = [n for n, shown in enumerate(row.used) if shown]
        texts, size = self._fitting([float(row.values[n]) for n in columns], row.digits)
        for n, text in zip(columns, texts, strict=True):
            left, right = self._x(n), self._x(n + 1)
            field = (left + 1, self._top + 1, max(left + 1, right - 1), self._top + ROW - 2)
            self._draw.rectangle(field, fill=_tint(float(row.values[n] - row.usual[n])))
            self._centred(n, text, size, _INK, drop=(ROW - size) // 2 - 2)
        self._top += ROW

    def curves(self, schedule: Sequence[_Point], states: Sequence[_Line], queries: Sequence[_Line]) -> None:
        """Noise levels over the steps, on a log axis where they go above 2; one line of each per sample."""
        levels = [level for _, level in (*schedule, *itertools.chain(*states, *queries))]
        logarithmic = max(levels) > 2
        shown = [level for level in levels if level > 0 or not logarithmic]
        low, high = min(shown), max(*shown, min(shown) * 1.01)

        def place(point: _Point) -> _Point:
            n, level = point
            share = math.log(level / low) / math.log(high / low) if logarithmic else (level - low) / (high - low)
            return self._x(n), self._top + 12 + (CURVES - 24) * (1 - share)

        for level in (high, low):
            _, y = place((0, level))
            self._draw.line((self._x(0), y, WIDTH - MARGIN, y), fill=_RULE)
            self._draw.text((MARGIN, y - 12), f"{level:.3g}", fill=_FAINT, font=ImageFont.load_default(20))
        thin = 3 if len(states) == 1 else 1
        for line, ink, width in ((schedule, _SCHEDULE, 7), *((state, _INK, thin) for state in states)):
            points = [place(point) for point in line if point[1] in shown]
            self._draw.line(points, fill=ink, width=width, joint="curve")
        radius = 6 if len(self._columns) <= 30 else 3
        for x, y in map(place, itertools.chain(*queries)):
            self._draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=_RAISED)
        for at in zip(*queries, strict=True):
            x, y = place((at[0][0], sum(level for _, level in at) / len(at)))
            self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_RAISED, outline=_PAPER)
        self._top += CURVES

    def _x(self, n: float) -> float:
        return MARGIN + LABEL + (WIDTH - 2 * MARGIN - LABEL) * n / len(self._columns)

    def _centred(self, n: int, text: str, size: int, ink: tuple[int, int, int], drop: int = 0) -> None:
        font = ImageFont.load_default(size)
        x = (self._x(n) + self._x(n + 1) - font.getlength(text)) / 2
        self._draw.text((x, self._top + drop), text, fill=ink, font=font)

    def _fitting(self, values: Sequence[float], most: int) -> tuple[list[str], int]:
        """Texts and their size: as many digits as allowed, and as large, as fit a column; none where nothing readable
        fits."""
        room = self._x(1) - self._x(0) - 8
        for digits, size in ((3, 22), (2, 22), (2, 20), (2, 18), (2, 16), (1, 16)):
            texts = [f"{value:.{min(digits, most)}f}" for value in values]
            if all(ImageFont.load_default(size).getlength(text) <= room for text in texts):
                return texts, size
        return [""] * len(values), 16


def _tint(difference: float) -> tuple[int, ...]:
    strength = 0.6 * min(1.0, abs(difference) / 0.5) ** 0.5
    ink = _RAISED if difference > 0 else _LOWERED
    return tuple(round(paper + (full - paper) * strength) for paper, full in zip(_FIELD, ink, strict=True))
