"""What a solver file was made for, in words. Its provenance may hold values of any type."""

import re
from collections.abc import Sequence

import comfy.supported_models

from ..comfyui.facts import pixels_per_latent
from ..dyweight import SolverFile
from ..dyweight.solver_set import in_words


def cfg_of(file: SolverFile) -> float | None:
    """The cfg that it was made with; None where it does not say."""
    return number(file.provenance.get("cfg"))


def summary(file: SolverFile) -> str:
    """A line on for what it is, and one on how close to what it comes, as far as the file says."""
    return "\n".join(filter(None, (_for_what(file), _how_close(file))))


def size(shape: Sequence[object], pixels: int | None) -> str:
    """Width and height of the picture whose latent has this shape, without the batch; else the shape.

    pixels: of the picture for each position of the latent, if known.
    """
    numbers = [n for n in shape if isinstance(n, int)]
    if pixels and len(numbers) == len(shape) == 3:
        return f"{pixels * numbers[2]} x {pixels * numbers[1]} px"
    return f"latent {' x '.join(str(n) for n in shape)}"


def _for_what(file: SolverFile) -> str:
    made_for = file.member().provenance
    shape: object = made_for.get("shape")
    values = {"cfg": made_for.get("cfg"), "guidance": made_for.get("guidance")}
    parts = [
        f"For {made_for.get('model') or 'a model that the file does not name'}",
        f"{in_words(file.solvers.steps)} steps",
    ]
    evaluations = [solver.evaluations for solver in map(file.solvers.member, file.solvers.steps) if solver.guided]
    parts += [f"{in_words(evaluations)} network evaluations"] if evaluations else []
    parts += [f"{name} {value:g}" for name, value in values.items() if number(value) is not None]
    model = getattr(comfy.supported_models, str(made_for.get("model_family")), None)
    parts += [size(shape, pixels_per_latent(model))] if isinstance(shape, list) else []
    return ", ".join(parts) + "."


def _how_close(file: SolverFile) -> str:
    member = file.member()
    made_for = member.provenance
    others = {
        f"the handcrafted {made_for.get('handcrafted')}": made_for.get("endpoint_error_handcrafted"),
        "the solver without the learned numbers": made_for.get("endpoint_error_before"),
    }
    after, errors = number(made_for.get("endpoint_error_after")), {name: number(e) for name, e in others.items()}
    teacher = re.sub(r"^(\w+):(\d+)$", r"\1 with \2 steps", str(made_for.get("teacher") or ""))
    if teacher and after and any(errors.values()):
        parts = " and ".join(
            f"{100 * after / error:.2g} % of that of {name}" for name, error in errors.items() if error
        )
        return f"At {member.solver.steps} steps its error is {parts}. It is {after:.2g}, against {teacher}."
    return f"Made to come close to {teacher}; the file does not say how close it comes." if teacher else ""


def number(value: object) -> float | None:
    """A number of a provenance; None for anything else, truth values too."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
