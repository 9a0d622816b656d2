"""The picture of a solver, drawn with Pillow: ComfyUI does not bring matplotlib."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..dyweight import DyWeight

WIDTH, MARGIN, ROW = 1024, 32, 40
_PAPER, _INK, _FAINT = (250, 250, 248), (30, 32, 36), (150, 152, 156)
_RAISED, _LOWERED = (200, 78, 60), (52, 104, 180)
_LABEL = 190


def coefficients(solver: DyWeight) -> Tensor:
    """[1, height, width, 3] in 0..1: for what the solver was made, its numbers step by step, its schedule."""
    canvas = _Canvas(_height(solver))
    canvas.text(Path(solver.source).stem if solver.source else f"{solver.family} solver", size=30)
    for line in _facts(solver):
        canvas.text(line, size=18, ink=_FAINT)
    columns = [f"step {n + 1}" for n in range(solver.steps)]
    canvas.heading("weights: red above, blue below those of the untrained solver", columns)
    untrained = DyWeight(solver.sigmas, solver.order).weights.detach()
    weights = solver.weights.detach()
    for i in range(solver.order):
        label = "newest slope" if i == 0 else f"{i} step{'s' if i > 1 else ''} ago"
        used = [n >= i for n in range(solver.steps)]
        canvas.numbers(label, weights[:, i].tolist(), untrained[:, i].tolist(), used)
    sums = weights.sum(1).tolist()
    canvas.numbers("sum (1: no time shift)", sums, [1.0] * solver.steps, [True] * solver.steps)
    asked = [not (n == 0 and solver.analytic_first_step) for n in range(solver.steps)]
    canvas.numbers("time scale", solver.time_scale.detach().tolist(), [1.0] * solver.steps, asked)
    plan = solver.plan()
    canvas.heading("noise levels: grey the schedule, black the states, red where the network is asked", columns)
    canvas.curves(solver.sigmas.tolist(), plan.sigmas.tolist(), plan.query_sigmas.tolist())
    return torch.from_numpy(np.asarray(canvas.image, dtype=np.float32) / 255)[None]


def _facts(solver: DyWeight) -> list[str]:
    made_for = solver.provenance
    about = [str(made_for["model"])] if made_for.get("model") else []
    about += [f"{solver.steps} steps, {solver.network_calls} network calls, order {solver.order}"]
    if made_for.get("shape"):
        about.append(f"latent {'x'.join(str(n) for n in made_for['shape'])}")
    about += [f"{name} {made_for[name]}" for name in ("cfg", "guidance", "shift") if made_for.get(name) is not None]
    lines = ["made for " + ", ".join(about)]
    before, after = made_for.get("endpoint_error_before"), made_for.get("endpoint_error_after")
    if isinstance(before, float) and isinstance(after, float):
        lines.append(f"endpoint error {before:.4g} before distillation, {after:.4g} after")
    return lines


def _height(solver: DyWeight) -> int:
    return 2 * MARGIN + 42 + 30 * len(_facts(solver)) + 2 * 70 + ROW * (solver.order + 2) + 320


class _Canvas:
    """A sheet that is filled from top to bottom."""

    def __init__(self, height: int) -> None:
        self.image = Image.new("RGB", (WIDTH, height), _PAPER)
        self._draw = ImageDraw.Draw(self.image)
        self._top = MARGIN

    def text(self, text: str, size: int, ink: tuple[int, int, int] = _INK) -> None:
        font = ImageFont.load_default(size)
        while len(text) > 8 and self._draw.textlength(text, font=font) > WIDTH - 2 * MARGIN:
            text = text[:-2].rstrip(" .…") + "…"
        self._draw.text((MARGIN, self._top), text, fill=ink, font=font)
        self._top += round(size * 1.4)

    def heading(self, text: str, columns: Sequence[str]) -> None:
        self._top += 16
        self.text(text, size=19)
        if len(columns) <= 12:
            for n, column in enumerate(columns):
                self._cell(n, len(columns), column, 15, _FAINT)
        self._top += 26

    def numbers(self, label: str, values: Sequence[float], usual: Sequence[float], used: Sequence[bool]) -> None:
        """One row: each value on a field that is the redder the farther it lies above its usual value."""
        self._draw.text((MARGIN, self._top + 8), label, fill=_INK, font=ImageFont.load_default(17))
        for n, (value, expected, shown) in enumerate(zip(values, usual, used, strict=True)):
            if shown:
                left, right = _column(n, len(values))
                field = (left + 1, self._top + 1, right - 1, self._top + ROW - 2)
                self._draw.rectangle(field, fill=_tint(value - expected))
                self._cell(n, len(values), _short(value, right - left), 17, _INK, drop=9)
        self._top += ROW

    def curves(self, schedule: Sequence[float], states: Sequence[float], queries: Sequence[float]) -> None:
        """Noise levels over the steps; on a log axis where they span more than two decades."""
        steps, height = len(queries), 300
        positive = [value for value in (*schedule, *states, *queries) if value > 0]
        logarithmic = max(schedule) > 2
        low = min(positive) if logarithmic else min(0.0, *schedule, *states)
        high = max(positive)

        def place(n: float, value: float) -> tuple[float, float]:
            if logarithmic:
                fraction = np.log(max(value, low) / low) / np.log(high / low)
            else:
                fraction = (value - low) / (high - low)
            left, right = MARGIN + _LABEL, WIDTH - MARGIN
            return left + (right - left) * n / steps, self._top + height - 12 - (height - 24) * float(fraction)

        for value in (high, low):
            _, y = place(0, value)
            self._draw.line((MARGIN + _LABEL - 8, y, WIDTH - MARGIN, y), fill=(225, 225, 222))
            self._draw.text((MARGIN, y - 10), f"sigma {value:.3g}", fill=_FAINT, font=ImageFont.load_default(16))
        for values, ink, width in ((schedule, _FAINT, 6), (states, _INK, 3)):
            self._draw.line([place(n, value) for n, value in enumerate(values)], fill=ink, width=width, joint="curve")
        for n, value in enumerate(queries):
            x, y = place(n, value)
            self._draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=_RAISED, outline=_PAPER)
        self._top += height

    def _cell(self, n: int, count: int, text: str, size: int, ink: tuple[int, int, int], drop: int = 0) -> None:
        left, right = _column(n, count)
        font = ImageFont.load_default(size)
        x = (left + right - self._draw.textlength(text, font=font)) / 2
        self._draw.text((x, self._top + drop), text, fill=ink, font=font)


def _column(n: int, count: int) -> tuple[float, float]:
    width = (WIDTH - 2 * MARGIN - _LABEL) / count
    return MARGIN + _LABEL + n * width, MARGIN + _LABEL + (n + 1) * width


def _short(value: float, width: float) -> str:
    """As many digits as fit; none where a column is narrower than a number."""
    return "" if width < 34 else f"{value:.2f}" if width < 60 else f"{value:.3f}"


def _tint(difference: float) -> tuple[int, ...]:
    strength = min(1.0, abs(difference) / 0.5) * 0.6
    ink = _RAISED if difference > 0 else _LOWERED
    return tuple(round(p + (i - p) * strength) for p, i in zip((240, 240, 237), ink, strict=True))
