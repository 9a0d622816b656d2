"""Gradients through ComfyUI's networks, which are written for inference."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def differentiable() -> Iterator[None]:
    """ComfyUI's differentiable kernels, and copies of what the backward pass needs: its blocks add in place."""
    import comfy.model_management

    before = getattr(comfy.model_management, "in_training", False)
    comfy.model_management.in_training = True
    try:
        with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda saved: saved):
            yield
    finally:
        comfy.model_management.in_training = before
