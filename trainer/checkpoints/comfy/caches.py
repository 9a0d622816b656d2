"""What skips calls of a network in the places of others: a fit asks out of order, so it may not be on the model."""

from collections.abc import Iterator
from typing import Any

from ...run.errors import CheckpointError

CACHES = {
    "lazycache": "LazyCache",
    "easycache": "EasyCache",
    "teacache": "TeaCache",
    "rel_l1_thresh": "TeaCache",
    "magcache": "MagCache",
    "spectrum": "Spectrum",
    "fbcache": "First Block Cache",
    "first_block_cache": "First Block Cache",
    "taylorseer": "TaylorSeer",
}
"""By what the options of a model that carries one call something."""
_DEEP = 4


def refuse_caches(model_options: dict[str, Any]) -> None:
    """CheckpointError for a model with one. model_options: ComfyUI's, of a MODEL or a GUIDER."""
    names = [name.lower() for name in _names(model_options, _DEEP)]
    found = {shown: None for known, shown in CACHES.items() if any(known in name for name in names)}
    if found:
        raise CheckpointError(
            "take {caches} off the model for the fit: it answers some calls from earlier ones, and a fit asks for all "
            "of them; put it back to sample, if it still pays at so few steps",
            caches=" + ".join(found),
        )


def _names(value: Any, deep: int) -> Iterator[str]:
    """Keys, and the classes and functions of values, at most so deep."""
    if isinstance(value, dict) and deep:
        for key, part in value.items():
            yield str(key)
            yield from _names(part, deep - 1)
    elif isinstance(value, list | tuple) and deep:
        for part in value:
            yield from _names(part, deep - 1)
    elif callable(value) or hasattr(value, "__dict__"):
        yield getattr(value, "__qualname__", type(value).__qualname__)
