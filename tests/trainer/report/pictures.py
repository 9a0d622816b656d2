"""What the tests of pictures share."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(path: Path) -> np.ndarray:
    """The decoded PNG, after a look at what every picture must be: whole, alone in its folder, of sensible size."""
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert 60 <= pixels.shape[0] <= 2400 and 150 <= pixels.shape[1] <= 2400
    assert (pixels[0, 0] == 255).all() and pixels.std() > 1
    return pixels
