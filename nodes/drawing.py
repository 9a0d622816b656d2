"""The picture of a solver, drawn with Pillow: ComfyUI does not bring matplotlib."""

import itertools
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..dyweight import DyWeight, FreeTable, Indis, InstanceDyWeight, LearnedSchedule, Plan, Solver

WIDTH, MARGIN, LABEL, ROW, CURVES = 720, 24, 134, 42, 300
"""Narrow, with large letters: a node shows it at half the size."""
MOST_ROWS, MOST_LETTERS = 10, 300
NOISES = 64
_PAPER, _FIELD, _RULE, _INK, _FAINT = (250, 250, 248), (240, 240, 237), (222, 222, 218), (30, 32, 36), (112, 114, 120)
_SCHEDULE, _RAISED, _LOWERED = (170, 172, 176), (200, 78, 60), (52, 104, 180)
_Point = tuple[float, float]
_Line = Sequence[_Point]


def picture(solver: Solver) -> Tensor:
    """[1, height, width, 3] in 0..1: for what the solver was made, its numbers step by step, its schedule."""
    columns = len(_asked(solver))
    weights = min(solver.order, solver.steps, MOST_ROWS)
    sheet = _Sheet(1300 + 2 * ROW * weights, columns, "step" if columns == solver.steps else "call")
    sheet.text(Path(solver.source).stem if solver.source else f"{solver.family} solver", size=32)
    for line in _facts(solver):
        sheet.text(line, size=20, ink=_FAINT)
    if isinstance(solver, DyWeight | FreeTable):
        _coefficients(solver, sheet)
    elif isinstance(solver, LearnedSchedule):
        _schedule(solver, sheet)
    else:
        _spread(solver, sheet)
    return torch.from_numpy(np.asarray(sheet.cut(), dtype=np.float32) / 255)[None]


def _coefficients(solver: DyWeight | FreeTable, sheet: "_Sheet") -> None:
    """The weights and time scales beside the untrained ones, and the schedule they make."""
    plan, steps, weights, asked = solver.plan(), solver.steps, solver.weights.detach(), _asked(solver)
    sheet.heading("weights: red above, blue below the untrained")
    _weights(solver, weights, sheet)
    shifted = " (1: time not shifted)" if isinstance(solver, DyWeight) else ""
    sheet.heading(f"sum of weights{shifted}, time scale")
    sheet.numbers("sum", weights.sum(1), torch.ones(steps), [True] * steps)
    sheet.numbers("time scale", solver.time_scale.detach(), torch.ones(steps), asked)
    sheet.heading("noise: grey schedule, black states, red network calls")
    _curves(solver, plan, sheet)


def _schedule(solver: LearnedSchedule, sheet: "_Sheet") -> None:
    """Where the network is asked, and the learned times beside those of the base schedule."""
    plan, asked = solver.plan(), _asked(solver)
    untrained = LearnedSchedule(solver.sigmas, solver.base, solver.settings()["order"] or None).plan().detach()
    sheet.heading(f"network calls of {solver.base}: red above, blue below the untrained")
    sheet.numbers("sigma", plan.query_sigmas, untrained.query_sigmas, asked)
    sheet.numbers("time scale", solver.time_scale, torch.ones(solver.rows), asked)
    sheet.heading("noise: grey schedule, black states, red network calls")
    _curves(solver, plan, sheet)


def _weights(solver: DyWeight | FreeTable, weights: Tensor, sheet: "_Sheet") -> None:
    begun = DyWeight(solver.sigmas, solver.order) if isinstance(solver, DyWeight) else FreeTable(solver.sigmas)
    untrained = begun.weights.detach()
    for i in range(min(solver.order, solver.steps, MOST_ROWS)):
        used = [n >= i for n in range(solver.steps)]
        sheet.numbers("newest slope" if i == 0 else f"{i} before", weights[:, i], untrained[:, i], used)


def _spread(solver: Indis | InstanceDyWeight, sheet: "_Sheet") -> None:
    """The tables of NOISES noises without a prompt, and by how much they differ."""
    channels, grid = solver.phi.channels, solver.phi.grid
    noise = torch.randn(NOISES, max(1, channels), *grid, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plan = solver.plan(noise=(noise.squeeze(1) if channels == len(grid) == 1 else noise) * float(solver.sigmas[0]))
    queries = _by_sample(plan.query_sigmas)
    alike, asked = len(queries) == 1, _asked(solver)
    of = "the same for every noise, no prompt" if alike else f"{len(queries)} noises, no prompt"
    if isinstance(solver, InstanceDyWeight):
        weights = _weights_of(solver, plan)
        sheet.heading("mean weights: red above, blue below the untrained")
        _weights(solver.dyweight, weights.mean(0), sheet)
        if not alike:
            spread = weights.std(0).amax(1)
            sheet.numbers("largest spread", spread, spread, [True] * solver.steps)
    sheet.heading(f"network calls: {of}")
    mean = queries.mean(0)
    sheet.numbers("mean sigma", mean, mean, asked)
    if not alike:
        spread = 100 * queries.std(0) / mean
        sheet.numbers("spread in %", spread, spread, asked, digits=1)
    sheet.heading("noise: grey schedule, black states, red network calls")
    _curves(solver, plan, sheet)


def _weights_of(solver: InstanceDyWeight, plan: Plan) -> Tensor:
    """[samples, steps, order] newest first: the inverse of how a DyWeight makes its table."""
    divisors = plan.sigmas[..., :-1] if solver.slope == "state" else plan.query_sigmas
    moves = plan.gains * divisors.unsqueeze(-2) / (solver.sigmas[1:] - plan.sigmas[..., :-1]).unsqueeze(-1)
    rows = [moves[..., n, : n + 1].flip(-1)[..., : solver.order] for n in range(solver.steps)]
    padded = [torch.nn.functional.pad(row, (0, solver.order - row.shape[-1])) for row in rows]
    return torch.stack(padded, -2).reshape(-1, solver.steps, solver.order)


def _by_sample(values: Tensor) -> Tensor:
    """[n] or [B, n] -> [B, n]."""
    return values.reshape(-1, values.shape[-1])


def _curves(solver: Solver, plan: Plan, sheet: "_Sheet") -> None:
    calls, asked = -(-plan.rows // solver.steps), _asked(solver)
    schedule = [(min(n * calls, plan.rows), level) for n, level in enumerate(solver.sigmas.tolist())]
    states = [list(enumerate(levels)) for levels in torch.unique(_by_sample(plan.sigmas), dim=0).tolist()]
    queries = [
        [(n, level) for n, level in enumerate(levels) if asked[n]] for levels in _by_sample(plan.query_sigmas).tolist()
    ]
    sheet.curves(schedule, states, queries)


def _asked(solver: Solver) -> list[bool]:
    """For each row of the table whether it asks the network."""
    first = int(solver.analytic_first_step)
    return [n >= first for n in range(solver.network_calls + first)]


def _facts(solver: Solver) -> list[str]:
    made_for = solver.provenance
    calls = f", {solver.network_calls} network calls" if solver.network_calls != solver.steps else ""
    family = "" if isinstance(solver, DyWeight) else f"{solver.family}, "
    about = [f"{family}{solver.steps} step{'s' if solver.steps > 1 else ''}{calls}, order {solver.order}"]
    if isinstance(made_for.get("shape"), list):
        about.append(f"latent {'x'.join(str(n) for n in made_for['shape'])}")
    about += [f"{name} {made_for[name]}" for name in ("cfg", "guidance", "shift") if made_for.get(name) is not None]
    lines = [f"made for {made_for['model']}"] if made_for.get("model") else []
    lines.append(", ".join(about))
    before, after = made_for.get("endpoint_error_before"), made_for.get("endpoint_error_after")
    if isinstance(before, float) and isinstance(after, float):
        lines.append(f"endpoint error {before:.4g} before distillation, {after:.4g} after")
    return lines


class _Sheet:
    """Paper that is filled from top to bottom, with a column for each step."""

    def __init__(self, height: int, steps: int, column: str) -> None:
        self._image = Image.new("RGB", (WIDTH, height), _PAPER)
        self._draw = ImageDraw.Draw(self._image)
        self._top, self._steps, self._column = MARGIN, steps, column

    def cut(self) -> Image.Image:
        """The part that is filled."""
        return self._image.crop((0, 0, WIDTH, self._top + MARGIN))

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
        """A line of text, then the number of each step, or of every so many where they would touch."""
        self._top += 14
        self.text(text, size=22)
        widest = ImageFont.load_default(18).getlength(f"{self._steps}") + 8
        every = math.ceil(widest / (self._x(1) - self._x(0)))
        for n in range(0, self._steps, every):
            self._centred(n, f"{self._column} {n + 1}" if self._steps <= 6 else f"{n + 1}", 18, _FAINT)
        self._top += 26

    def numbers(self, label: str, values: Tensor, usual: Tensor, used: Sequence[bool], digits: int = 3) -> None:
        """One row: each value on a field, the redder the farther it is above its usual value."""
        self._draw.text((MARGIN, self._top + 9), label, fill=_INK, font=ImageFont.load_default(20))
        texts, size = self._fitting([float(value) for value, shown in zip(values, used, strict=True) if shown], digits)
        columns = [n for n, shown in enumerate(used) if shown]
        for n, text in zip(columns, texts, strict=True):
            left, right = self._x(n), self._x(n + 1)
            field = (left + 1, self._top + 1, max(left + 1, right - 1), self._top + ROW - 2)
            self._draw.rectangle(field, fill=_tint(float(values[n] - usual[n])))
            self._centred(n, text, size, _INK, drop=(ROW - size) // 2 - 2)
        self._top += ROW

    def curves(self, schedule: Sequence[_Point], states: Sequence[_Line], queries: Sequence[_Line]) -> None:
        """Noise levels over the steps, on a log axis where they go above 2; a line of each for every sample."""
        levels = [level for _, level in (*schedule, *itertools.chain(*states, *queries))]
        logarithmic = max(levels) > 2
        shown = [level for level in levels if level > 0 or not logarithmic]
        low, high = min(shown), max(*shown, min(shown) * 1.01)

        def place(point: _Point) -> _Point:
            n, level = point
            share = np.log(level / low) / np.log(high / low) if logarithmic else (level - low) / (high - low)
            return self._x(n), self._top + 12 + (CURVES - 24) * (1 - float(share))

        for level in (high, low):
            _, y = place((0, level))
            self._draw.line((self._x(0), y, WIDTH - MARGIN, y), fill=_RULE)
            self._draw.text((MARGIN, y - 12), f"{level:.3g}", fill=_FAINT, font=ImageFont.load_default(20))
        thin = 3 if len(states) == 1 else 1
        for line, ink, width in ((schedule, _SCHEDULE, 7), *((state, _INK, thin) for state in states)):
            points = [place(point) for point in line if point[1] in shown]
            self._draw.line(points, fill=ink, width=width, joint="curve")
        radius = 6 if self._steps <= 30 else 3
        for x, y in map(place, itertools.chain(*queries)):
            self._draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=_RAISED)
        for at in zip(*queries, strict=True):
            x, y = place((at[0][0], sum(level for _, level in at) / len(at)))
            self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_RAISED, outline=_PAPER)
        self._top += CURVES

    def _x(self, n: float) -> float:
        return MARGIN + LABEL + (WIDTH - 2 * MARGIN - LABEL) * n / self._steps

    def _centred(self, n: int, text: str, size: int, ink: tuple[int, int, int], drop: int = 0) -> None:
        font = ImageFont.load_default(size)
        x = (self._x(n) + self._x(n + 1) - font.getlength(text)) / 2
        self._draw.text((x, self._top + drop), text, fill=ink, font=font)

    def _fitting(self, values: Sequence[float], most: int) -> tuple[list[str], int]:
        """Texts and their size, as many digits (at most so many) and as large as fit a column; none where nothing
        readable does."""
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
