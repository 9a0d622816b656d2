"""What the trainer needs of a checkpoint: four required parts, and optional members."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ..run.errors import CheckpointError

Result = TypeVar("Result")


class Checkpoint(Protocol):
    """Any object with these four parts can be distilled. `FullCheckpoint` lists the optional members."""

    @property
    def shape(self) -> Sequence[int]:
        """Shape of one latent, without the batch axis."""

    def schedule(self, steps: int) -> Tensor:
        """sigmas [steps + 1], decreasing, the first the same for each number of steps."""

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Any]:
        """(noise [batch, *shape] scaled to schedule(n)[0], cond), the same for the same state of the generator."""

    def denoise(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor | tuple[Tensor, Tensor]:
        """x [batch, *shape], sigma [batch] -> [batch, *shape], the predicted clean x.

        Or the pair (conditional, unconditional), which the trainer guides with the checkpoint's `cfg`.
        """


@dataclass(frozen=True)
class Rival:
    """A sampler that is code instead of a table, to compare a solver with."""

    network_calls: int
    sample: Callable[[Tensor, Any], Tensor]
    """(noise [B, *shape], cond) -> endpoints [B, *shape]"""


class FullCheckpoint:
    """A checkpoint with all optional members; those that the object lacks have a value for "none"."""

    def __init__(self, made: Checkpoint, name: str | None = None) -> None:
        """made: any object with the four parts. name: its `--ckpt`, for errors."""
        self.made, self.name = made, name or type(made).__name__
        self.shape = tuple(made.shape)
        self._first: float | None = None
        self._leaves_x = self._told_of_gradient = False
        self.fingerprint: str | None = getattr(made, "fingerprint", None)
        """Identifies the weights in caches and files; by default a hash of a few network calls."""
        self.model_family: str | None = getattr(made, "model_family", None)
        """Kept in the coefficient file, like the next four."""
        self.prediction_type: str | None = getattr(made, "prediction_type", None)
        self.shift: float | None = getattr(made, "shift", None)
        self.guidance: float | None = getattr(made, "guidance", None)
        self.cfg: float | None = getattr(made, "cfg", None)
        """Scale of classifier-free guidance: unconditional + cfg (conditional - unconditional) is the clean x."""
        self.conditional: Callable[..., Tensor] | None = getattr(made, "conditional", None)
        """(x, sigma, cond) -> the first of the pair that `denoise` gives, without the cost of the second."""
        self.predictions_at: Callable[..., tuple[Tensor, Tensor | None]] | None = getattr(made, "predictions_at", None)
        """(x, sigma, cond, states, row, both) -> (conditional, unconditional or None), as `denoise_at`; for checkpoints
        whose `denoise` gives the guided prediction."""
        self.made_for: dict[str, Any] = getattr(made, "made_for", {})
        """More JSON values for the file."""
        self.schedule_recipe: dict[str, Any] | None = getattr(made, "schedule_recipe", None)
        """How `schedule` makes its sigmas, as JSON values."""
        self.prompts: int | None = getattr(made, "prompts", None)
        """The number of prompts, if a condition is the numbers [B] of prompts."""
        self.worth_timing: bool = getattr(made, "worth_timing", False)
        """Whether a run should estimate its time, which takes two network calls."""
        self.denoise_at: Callable[..., Tensor] | None = getattr(made, "denoise_at", None)
        """(x, sigma, cond, states, row) -> clean x, like `denoise`; states: noise levels of a plan's states, with
        the call's at `row`. For networks inside code that reads them."""
        self.features: Callable[[Tensor], Tensor] | None = getattr(made, "features", None)
        """[B, *shape] -> [B, n], differentiable: what `--loss features` compares."""
        self.rivals: Callable[[int, Sequence[str] | None, Callable[[int], object]], dict[str, Rival]] | None = getattr(
            made, "rivals", None
        )
        """(network calls, names, count) -> samplers by name to compare with instead of the handcrafted ones; count is
        called with the network calls that finding them takes. Raises CheckpointError for an unknown name."""

    def schedule(self, steps: int) -> Tensor:
        """sigmas [steps + 1]. Raises CheckpointError where they do not decrease to 0 or above, or begin elsewhere than
        those of other steps."""
        try:
            sigmas = self.made.schedule(steps)
        except ValueError as error:
            raise CheckpointError(
                "--ckpt {name}: schedule({steps}): {reason}", name=self.name, steps=steps, reason=error
            ) from error
        if not isinstance(sigmas, Tensor) or tuple(sigmas.shape) != (steps + 1,):
            raise CheckpointError(
                "--ckpt {name}: schedule({steps}) must be a tensor of {count} sigmas, got {given}",
                name=self.name,
                steps=steps,
                count=steps + 1,
                given=describe(sigmas),
            )
        if not bool((sigmas[1:] < sigmas[:-1]).all() and torch.isfinite(sigmas).all() and sigmas[-1] >= 0):
            raise CheckpointError(
                "--ckpt {name}: schedule({steps}) must decrease to 0 or above, got {given}",
                name=self.name,
                steps=steps,
                given=sigmas.tolist(),
            )
        first = float(sigmas[0])
        self._first = self._first or first
        if not math.isclose(first, self._first, rel_tol=1e-3):
            raise CheckpointError(
                "--ckpt {name}: choose another scheduler, as simple: with {steps} steps this one begins at sigma "
                "{first}, with others at {other}, and solver and teacher begin with the same noise",
                name=self.name,
                steps=steps,
                first=f"{first:.4g}",
                other=f"{self._first:.4g}",
            )
        return sigmas

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Any]:
        """As `Checkpoint.draw`."""
        return self.made.draw(generator, batch)

    def denoise(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        """x [B, *shape], sigma [B] -> the predicted clean x, guided where `made` gives a pair.

        Raises CheckpointError if `made` changes its x or gives it back, or gives a pair without a cfg.
        """
        before = None if self._leaves_x else x.detach().clone()
        denoised = self.made.denoise(x, sigma, cond)
        if isinstance(denoised, tuple) and len(denoised) == 2:
            conditional, unconditional = self._pair(denoised)
            if self.cfg is None:
                raise CheckpointError(f"--ckpt {self.name}: denoise gave a pair: set its cfg, the guidance scale")
            denoised = unconditional + self.cfg * (conditional - unconditional)
        if before is not None and not torch.equal(before, x):
            raise CheckpointError(f"--ckpt {self.name}: denoise changed its x: compute on a copy, and leave x as it is")
        if before is not None and isinstance(denoised, Tensor) and torch.equal(before, denoised):
            raise CheckpointError(f"--ckpt {self.name}: denoise gave back its x: return the predicted clean x")
        self._leaves_x = True
        lost = torch.is_grad_enabled() and x.requires_grad and not getattr(denoised, "requires_grad", True)
        if lost and not self._told_of_gradient:
            self._told_of_gradient = True
            print(
                f"warning: --ckpt {self.name}: denoise returns results without a gradient, as under torch.no_grad, so "
                "--method adam fits to a part of it; remove that, or use --method gauss-newton"
            )
        return denoised

    def prepared(self, noise: Tensor, cond: Any, run: Callable[[], Result]) -> Result:
        """run(), one sampling run from this noise [B, *shape]: a checkpoint with a `prepared` of its own sets up once
        what all calls with this cond need. It may begin the run again."""
        prepare: Callable[..., Result] | None = getattr(self.made, "prepared", None)
        return run() if prepare is None else prepare(noise, cond, run)

    def predictions(
        self, x: Tensor, sigma: Tensor, cond: Any, both: bool, states: Tensor, row: int
    ) -> tuple[Tensor, Tensor | None]:
        """(conditional, unconditional) [B, *shape]; without `both` the second is not asked for where that can be.

        states, row: as for `denoise_at`. Raises CheckpointError if `made` does not tell the two apart.
        """
        if self.predictions_at is not None:
            return self.predictions_at(x, sigma, cond, states, row, both)
        if not both and self.conditional is not None:
            return self.conditional(x, sigma, cond), None
        return self._pair(self.made.denoise(x, sigma, cond))

    def _pair(self, found: Any) -> tuple[Tensor, Tensor]:
        if not isinstance(found, tuple) or len(found) != 2 or not all(isinstance(one, Tensor) for one in found):
            raise CheckpointError(
                f"--ckpt {self.name}: to learn guidance let denoise return the pair (conditional, unconditional), and "
                f"set cfg; it gave {describe(found)}"
            )
        return found

    def condition(self, cond: Any) -> Tensor | None:
        """[B, width], what a solver with a network may read of a condition; see `dyweight.conditions`."""
        return None if cond is None else self._told("condition", cond)  # type: ignore[no-any-return]

    def images(self, x: Tensor) -> Tensor | None:
        """x [B, *shape] -> [B, height, width] or [B, height, width, 3] in 0..1, for pictures and losses on them."""
        return self._told("images", x)  # type: ignore[no-any-return]

    def sketch(self) -> list[float] | None:
        """What the network is told from others by, within a tolerance; see `dyweight.sketch`."""
        tell = getattr(self.made, "sketch", None)
        return None if tell is None else tell()

    def captions(self, cond: Any) -> list[str] | None:
        """A text for each sample, such as its prompt, for pictures and report.json."""
        return self._told("captions", cond)  # type: ignore[no-any-return]

    def _told(self, name: str, value: Any) -> Any:
        tell = getattr(self.made, name, None)
        return None if tell is None else tell(value)


def full(checkpoint: Checkpoint | FullCheckpoint, name: str | None = None) -> FullCheckpoint:
    """The checkpoint with all optional members."""
    return checkpoint if isinstance(checkpoint, FullCheckpoint) else FullCheckpoint(checkpoint, name)


def describe(value: object) -> str:
    """A description of a value that is not the expected tensor, for errors."""
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
