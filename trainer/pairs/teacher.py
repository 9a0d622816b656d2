"""The handcrafted solver whose endpoints a student imitates."""

from dataclasses import dataclass

import dyweight
from dyweight.suggest import did_you_mean

from ..checkpoints.protocol import Checkpoint
from ..run.errors import TrainerError


@dataclass(frozen=True)
class Teacher:
    """A handcrafted solver with many steps, as `--teacher NAME:STEPS` names it."""

    name: str
    steps: int

    @classmethod
    def parse(cls, text: str) -> "Teacher":
        """`ipndm:35` -> Teacher("ipndm", 35); TrainerError for anything else."""
        name, _, steps = text.partition(":")
        if name not in dyweight.baselines.NAMES or not steps.isdecimal() or int(steps) < 1:
            names, hint = dyweight.baselines.NAMES, ""
            if name not in names:
                hint = did_you_mean(name, names)
            raise TrainerError(
                f"--teacher {text}: {hint}Give NAME:STEPS, as ipndm:35; the names are {', '.join(names)}"
            )
        return cls(name, int(steps))

    def plan(self, checkpoint: Checkpoint) -> dyweight.Plan:
        """The teacher's table on the checkpoint's own schedule."""
        try:
            return dyweight.baselines.plan(self.name, checkpoint.schedule(self.steps))
        except ValueError as error:
            raise TrainerError(f"--teacher {self}: schedule({self.steps}) of the checkpoint: {error}") from error

    def __str__(self) -> str:
        return f"{self.name}:{self.steps}"
