"""What a killed run leaves behind, and how the next one goes on from it."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dyweight.files import write_whole

from .errors import TrainerError

NOT_PART_OF_THE_RESULT = {"out", "resume", "report", "report_pairs", "cache", "keep_targets"}
"""Options that may differ between a run and the one that goes on with it."""


def comparable(options: dict[str, Any]) -> dict[str, Any]:
    """The options that must be the same in all processes of a run, one after the other or side by side."""
    return {name: value for name, value in options.items() if name not in NOT_PART_OF_THE_RESULT}


class ResumeFile:
    """The state of a fit beside the file it will write; gone when that file is there."""

    def __init__(self, out: Path, options: dict[str, Any]) -> None:
        self.path = out.with_name(out.name + ".resume")
        self._options = json.dumps(comparable(options), sort_keys=True, default=str)

    def save(self, state: dict[str, Tensor], extra: dict[str, Any]) -> None:
        """state: of the fit. extra: JSON values of the run itself."""
        tensors = {name: torch.as_tensor(value).clone().contiguous() for name, value in state.items()}
        metadata = {"options": self._options, "extra": json.dumps(extra)}
        write_whole(self.path, save(tensors, metadata))

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What `save` kept, or None where there is nothing; TrainerError where it belongs to other options."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise TrainerError(f"--resume: {self.path} can't be read ({error}); delete it to start anew") from error
        before, now = json.loads(metadata.get("options", "{}")), json.loads(self._options)
        for name in sorted(now):
            if before.get(name) != now[name]:
                raise TrainerError(
                    f"--resume: the interrupted run had {name} = {before.get(name)}, this one has {now[name]}; "
                    f"give the same options, or delete {self.path} to start anew"
                )
        return state, json.loads(metadata["extra"])

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
