"""The file from which the next run continues after one was killed."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dyweight.files import write_whole

from .errors import TrainerError

NOT_PART_OF_THE_RESULT = {"out", "resume", "report", "cache", "keep_targets"}
"""Options that may differ between a run and its continuation."""


def comparable(options: dict[str, Any]) -> dict[str, Any]:
    """The options that must be the same in all processes of a run, consecutive or parallel."""
    return {name: value for name, value in options.items() if name not in NOT_PART_OF_THE_RESULT}


class ResumeFile:
    """The state of a fit in a file beside the coefficient file, with which it is replaced."""

    def __init__(self, out: Path, options: dict[str, Any]) -> None:
        self.path = out.with_name(out.name + ".resume")
        self._options = json.dumps(comparable(options), sort_keys=True, default=str)

    def save(self, state: dict[str, Tensor], extra: dict[str, Any]) -> None:
        """state: that of the fit. extra: JSON values of the run."""
        tensors = {name: torch.as_tensor(value).clone().contiguous() for name, value in state.items()}
        metadata = {"options": self._options, "extra": json.dumps(extra)}
        write_whole(self.path, save(tensors, metadata))

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What `save` kept, or None if there is no file. Raises TrainerError if it belongs to other options."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                # copies: what is read stands at any address, and sums depend on that in the last bit
                state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise TrainerError(f"--resume: {self.path} can't be read ({error}); delete it to start over") from error
        before, now = json.loads(metadata.get("options", "{}")), json.loads(self._options)
        for name in sorted(now):
            if before.get(name) != now[name]:
                raise TrainerError(
                    f"--resume: the interrupted run had {name} = {before.get(name)}, this one has {now[name]}; "
                    f"give the same options, or delete {self.path} to start over"
                )
        return state, json.loads(metadata["extra"])

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
