"""The options of `trainer.distill --workflow`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..fit.budget import Effort
from .parse import POSITIVE, Checked, check_seed


@dataclass(frozen=True, kw_only=True)
class WorkflowOptions(Checked):
    """Fit a solver to the model of a ComfyUI workflow, in the place of its sampler, on a ComfyUI server."""

    workflow: Path
    """workflow in API format: in ComfyUI, Export (API)"""
    node: str | None = None
    """id of the sampler in whose place the fit is put; needed where there are several"""
    server: str | None = None
    """address of a running ComfyUI with this pack; by default http://127.0.0.1:8188, or one that is started"""
    comfyui: Path | None = None
    """ComfyUI's folder, to start a server; by default COMFYUI_PATH, the one the pack is in, or ~/comfy/ComfyUI"""
    steps: Annotated[tuple[int, ...], POSITIVE] = ()
    """number of steps, or several with commas between them; by default those of the sampler"""
    effort: Effort = "normal"
    """number of network calls that the fit may make"""
    seed: int = 0
    """seed of everything that is drawn"""
    name: str = "%model%-%steps%"
    """name of the file in models/dyweight"""
    prompts: Path | None = None
    """prompt file: .txt (one per line), .jsonl or .csv; by default the prompts that come with the trainer"""
    count: Annotated[int, POSITIVE] = 16
    """how many of the trainer's own prompts; 288 are all"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seed(self.seed)
