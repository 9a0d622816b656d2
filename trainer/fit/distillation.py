"""What a distillation gives."""

from dataclasses import dataclass

from dyweight import Solver, SolverFile

from . import Progress


@dataclass(frozen=True)
class Distillation:
    """A fitted solver and what it took."""

    file: SolverFile
    history: list[Progress]
    network_calls: dict[str, int]
    """forward, backward, and the total in forward-equivalents."""
    seconds: float
    peak_memory_bytes: int | None

    @property
    def solver(self) -> Solver:
        return self.file.solver
