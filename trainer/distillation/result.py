"""What a distillation gives."""

from dataclasses import dataclass

from dyweight import Solver, SolverFile

from ..fit import Progress


@dataclass(frozen=True)
class Distillation:
    """A fitted solver, or several in one file, and what it took."""

    file: SolverFile
    histories: dict[int, list[Progress]]
    """Of each fit, by number of steps."""
    network_calls: dict[str, int]
    """forward, backward, and the total in forward-equivalents."""
    seconds: float
    peak_memory_bytes: int | None

    @property
    def solver(self) -> Solver:
        """The only one."""
        return self.file.solver

    @property
    def history(self) -> list[Progress]:
        """Of all fits, one after the other."""
        return [line for lines in self.histories.values() for line in lines]
