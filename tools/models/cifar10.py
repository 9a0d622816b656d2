"""CIFAR-10 (Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images") from packed JPEG files.

`cifar10-train.safetensors` and `cifar10-test.safetensors` hold `jpeg`, all files one after the other in uint8,
`offsets` [n + 1], where each begins, and `labels` [n].
"""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from einops import reduce
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

TRAIN, TEST = "train", "test"


def pictures(folder: Path, split: str, pixels: int) -> tuple[Tensor, Tensor]:
    """uint8 [N, 3, pixels, pixels], means over squares of the 32 x 32 originals, and labels [N] int64."""
    data = load_file(folder / f"cifar10-{split}.safetensors")
    files, offsets = data["jpeg"].numpy(), data["offsets"].tolist()
    decoded = np.stack(
        [np.asarray(Image.open(io.BytesIO(files[start:end].tobytes()))) for start, end in pairwise(offsets)]
    )
    whole = torch.from_numpy(decoded).movedim(-1, 1)
    side = whole.shape[-1] // pixels
    small = reduce(whole.float(), "n c (y s) (x t) -> n c y x", "mean", s=side, t=side)
    return small.round().to(torch.uint8).contiguous(), data["labels"].long()
