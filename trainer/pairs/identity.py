"""What tells the model of a coefficient file from others."""

from collections.abc import Mapping
from typing import Any

from dyweight import Provenance
from dyweight.sketch import SAME, distance

from ..run.network import Network
from .targets import BY_ANSWERS, fingerprint


def identity(network: Network) -> Provenance:
    """For the file: how the network behaves, where it can be told, and its fingerprint where that is not all."""
    sketch, told = network.checkpoint.sketch(), fingerprint(network)
    behaves: Provenance = {} if sketch is None else {"sketch": sketch}
    return {**behaves, "fingerprint": told} if sketch is None or told.startswith(BY_ANSWERS) else behaves


def known_as(network: Network) -> Provenance:
    """All by which a file may name this model, older files too."""
    return {**identity(network), "fingerprint": fingerprint(network)}


def same_model(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the provenance of two files tells of one model; not where it does not say."""
    sketches = [made_for.get("sketch") for made_for in (one, other)]
    if all(isinstance(sketch, list) for sketch in sketches):
        return distance(sketches[0] or [], sketches[1] or []) <= SAME
    fingerprints = [made_for.get("fingerprint") for made_for in (one, other)]
    return fingerprints[0] is not None and fingerprints[0] == fingerprints[1]
