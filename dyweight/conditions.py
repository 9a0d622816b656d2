"""What a solver with a table for each sample is given of the condition: one vector per sample."""

import torch
from torch import Tensor
from torch.nn import functional


def of_class(labels: Tensor, classes: int) -> Tensor:
    """labels [B] -> [B, classes]: one-hot, scaled by 1 / sqrt(classes) (INDIS)."""
    rows = torch.zeros(len(labels), classes)
    return rows.scatter_(1, labels.cpu().long()[:, None], classes**-0.5)


def of_text(cross_attention: Tensor, pooled: Tensor | None) -> Tensor:
    """cross_attention [B, tokens, width], pooled [B, pooled width] or None -> [B, width + pooled width].

    The mean over the tokens and the pooled vector (INDIS, on FLUX: of T5 and CLIP), each scaled to a mean square of
    1 / length, as a class is: encoders differ in scale by orders of magnitude.
    """
    parts = [cross_attention.float().mean(1), *([] if pooled is None else [pooled.float()])]
    return torch.cat([functional.normalize(part.cpu(), dim=1) for part in parts], 1)
