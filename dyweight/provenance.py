"""What a coefficient file says of its solver besides the numbers."""

from typing import TypedDict


class Provenance(TypedDict, total=False):
    """What a solver was made for, and how: any JSON values, these under these names; it changes no number.

    A file may hold values of other types: check a value before you use it.
    """

    model: str
    """For people to read."""
    model_family: str | None
    """ComfyUI's name of the architecture, such as Flux, SD15, SDXL, WAN21_T2V."""
    fingerprint: str
    """Tells one model from another of the same name, to the last bit."""
    sketch: list[float]
    """Tells it from others within a tolerance, in the place of a fingerprint: `dyweight.sketch` compares."""
    prediction_type: str | None
    """eps, v, edm, x0 or flow."""
    shift: float | None
    cfg: float
    """Classifier-free guidance scale."""
    guidance: float | None
    """Guidance that the network takes as an input, as in FLUX.1-dev."""
    shape: list[int]
    """Shape of one latent, without the batch."""
    shapes: list[list[int]]
    """Of each size, where it was fitted to several at once; the first is `shape`."""
    teacher: str
    method: str
    loss: str
    effort: str | None
    pairs: int
    validation_pairs: int
    endpoint_error_before: float | None
    """Relative endpoint error of the untrained solver on pairs used for no choice; null where it is infinite."""
    endpoint_error_after: float | None
    """The same of the fitted solver."""
    handcrafted: str | None
    """The handcrafted solver with as many network calls that it was judged by, as NAME or NAME:ORDER."""
    endpoint_error_handcrafted: float | None
    endpoint_error_pairs: int
    validation_error_before: float | None
    """Error of the untrained solver on the pairs by which the fitted one was chosen."""
    validation_error_after: float | None
    seed: int
    versions: dict[str, str]
    date: str
    made_by: str
    source: str
    """Where published coefficients come from."""
    members: dict[str, "Provenance"]
    """Of a set, by number of steps: what holds for one member only."""
