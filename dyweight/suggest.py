"""Help for a name that is not known."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, choices: Iterable[str]) -> str:
    """`did you mean euler? ` with the nearest of the choices, or an empty text where none is near."""
    near = difflib.get_close_matches(str(name), list(choices), n=2, cutoff=0.4)
    return f"did you mean {' or '.join(near)}? " if near else ""
