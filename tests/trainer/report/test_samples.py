"""samples.png: rows, columns, and what stands above them."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.trainer.report.pictures import picture
from trainer.report import curves, samples
from trainer.report.samples import shortened

UNDECODED = SimpleNamespace(images=lambda x: None)

WRITE = curves.write
LONG = (
    "A photograph of an elderly fisherman mending a green net on a stone quay, soft morning light, shallow depth of "
    "field, incomprehensibilitiesofaverylongword"
)


@pytest.mark.parametrize(
    "shape", [(9, 8, 8), (4, 16, 24, 3), (2, 512, 384, 3), (1, 8, 8)], ids=["grey", "colour", "large", "one"]
)
def test_samples_writes_a_picture(shape: tuple[int, ...], tmp_path: Path) -> None:
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    grid = {"teacher: ipndm\n60 calls": images, "DyWeight, 5 calls": images, "broken $x_": images * math.nan}
    samples.samples(grid, tmp_path / "picture.png", "the same noise in each column")
    picture(tmp_path / "picture.png")


def test_small_samples_keep_their_pixels(drawn: list[Figure]) -> None:
    images = torch.zeros(2, 8, 8)
    images[1, 0, 0] = 1
    samples.samples({"teacher": images, "DyWeight": images}, "unused")
    page = drawn[0].axes[0].images[0].get_array()
    side, start = samples.CELL // 8 * 8, samples.CELL // 8 * 8 + samples.GAP
    assert page.shape == (2 * start, 2 * side + samples.GAP, 3)
    assert set(np.unique(page)) == {0.0, 1.0}
    assert (page[: side // 8, start : start + side // 8] == 1).all() and (page[:side, :side] == 0).all()
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["teacher", "DyWeight"]


def test_as_images_asks_the_checkpoint_first() -> None:
    latents = torch.full((2, 1, 4, 4), 3.0, requires_grad=True)
    images = samples.as_images(latents, SimpleNamespace(images=lambda x: x[:, 0]))
    assert images is not None and images.shape == (2, 4, 4) and float(images.max()) == 1 and not images.requires_grad


@pytest.mark.parametrize(
    "shape, expected",
    [
        ((2, 1, 6, 5), (2, 6, 5)),
        ((2, 2, 6, 5), (2, 6, 5)),
        ((2, 3, 6, 5), (2, 6, 5, 3)),
        ((2, 16, 6, 5), (2, 6, 5, 3)),
        ((2, 16, 7, 6, 5), (2, 6, 5, 3)),
        ((2, 16), None),
        ((2, 24, 64), None),
    ],
)
def test_as_images_without_a_decoder(shape: tuple[int, ...], expected: tuple[int, ...] | None) -> None:
    latents = 10 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images = samples.as_images(latents.to(torch.bfloat16), UNDECODED)
    assert (None if images is None else tuple(images.shape)) == expected
    if images is not None:
        assert float(images.min()) == 0 and float(images.max()) == 1 and float(images.std()) > 0.1


def test_as_images_takes_the_middle_frame_and_bears_constant_latents() -> None:
    video = torch.zeros(1, 3, 5, 2, 2)
    video[:, :, 2] = torch.arange(4.0).reshape(2, 2)
    images = samples.as_images(video, UNDECODED)
    assert images is not None and float(images[0, 1, 1].min()) == 1 and float(images[0, 0, 0].max()) == 0
    constant = samples.as_images(torch.ones(2, 1, 4, 4), UNDECODED)
    assert constant is not None and bool(torch.isfinite(constant).all())


JAPANESE = "雪の中の赤い鳥居、静かな朝、遠くに山" * 2


@pytest.mark.parametrize("width", [112, 75, 30])
@pytest.mark.parametrize("captions", [[LONG] * 10, ["7", LONG, "", JAPANESE, "two\nlines"]], ids=["long", "mixed"])
def test_captions_stand_above_their_own_column_and_below_the_title(
    captions: list[str], width: int, drawn: list[Figure], tmp_path: Path
) -> None:
    images = torch.zeros(len(captions), 112, width)
    samples.samples({"teacher": images, "DyWeight": images}, "unused", "a title", captions)
    WRITE(drawn[0], tmp_path / "picture.png")
    (axes,) = drawn[0].axes
    shown = [text for text in axes.texts if text.get_text() not in ("teacher", "DyWeight")]
    (title,) = (text for text in drawn[0].findobj(Text) if text.get_text() == "a title")
    top = axes.transData.transform((0, 0))[1]
    assert len(shown) == len(captions)
    for i, text in enumerate(shown):
        box, column = text.get_window_extent(), width + samples.GAP
        if text.get_text():
            left, right = (axes.transData.inverted().transform((x, 0))[0] for x in (box.x0, box.x1))
            assert i * column - 2 <= left and right <= (i + 1) * column
            assert top < box.y0 and box.y1 <= title.get_window_extent().y0


def test_a_picture_with_captions_is_written(tmp_path: Path) -> None:
    images = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    without, with_captions = tmp_path / "without" / "picture.png", tmp_path / "with" / "picture.png"
    samples.samples({"teacher": images}, without, "a title")
    samples.samples({"teacher": images}, with_captions, "a title", [LONG, "$x_1", JAPANESE])
    assert len(picture(with_captions)) > len(picture(without))


@pytest.mark.parametrize("width", [20, 112, 1000])
def test_a_shortened_caption_is_its_beginning_in_at_most_three_lines(width: int) -> None:
    lines = shortened(LONG, width).splitlines()
    whole = "".join(lines).rstrip("…").replace(" ", "")
    assert 1 <= len(lines) <= 3 and LONG.replace(" ", "").startswith(whole)
    assert lines[-1].endswith("…") == (whole != LONG.replace(" ", ""))
    assert shortened("red disc", 112) == "red disc"


@pytest.mark.filterwarnings("error")
def test_letters_that_no_font_has_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "fonts", lambda: [curves.FONT])
    assert shortened("Blüte 花", 112) == "Blüte " + samples.MISSING
    samples.samples({"teacher": torch.zeros(1, 8, 8)}, tmp_path / "picture.png", "a title", ["花"])
    assert (tmp_path / "picture.png").exists()
