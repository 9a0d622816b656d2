"""The node that samples: a model and a file are all that it needs to know."""

from typing import Any

from comfy_api.v0_0_2 import io

from . import solver_library
from .comfy_sampling import sample
from .load_solver import DyWeightLoadSolver
from .types import FOUND_BY, Passed, SolverType, as_file, schema

NOTHING = object()
"""In the place of an input that nothing is connected to."""


class DyWeightKSampler(io.ComfyNode):
    """Model, solver, prompts, latent -> LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DyWeightKSampler",
            display_name="KSampler (DyWeight)",
            search_aliases=FOUND_BY,
            description="Samples in the few steps of a solver file: it brings its own sampler, schedule and steps.",
            inputs=[
                io.Model.Input("model", tooltip="The model that the file was made for; weak LoRAs are fine."),
                io.Combo.Input(
                    "solver_name",
                    options=solver_library.names(),
                    extra_dict={"solvers": solver_library.settings()},
                    tooltip="A file in models/dyweight, or a preset that comes with the pack, made for your model.",
                ),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="One of the numbers of steps that the file has; 0 is its only one, or the middle one.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The noise that the picture starts from.",
                ),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Choosing a file sets the cfg that it was made with; other values give other pictures.",
                ),
                io.Conditioning.Input("positive", tooltip="What the picture should show."),
                io.Conditioning.Input("negative", tooltip="What it should not show; without effect where cfg is 1."),
                io.Latent.Input("latent_image", tooltip="The latent to sample, empty or of a picture."),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="1 makes a new picture; below 1, only the last round(steps x denoise) steps, at least one, "
                    "change the one given.",
                ),
                SolverType.Input(
                    "solver", optional=True, tooltip="A solver of another node, used instead of solver_name."
                ),
            ],
            outputs=[io.Latent.Output(tooltip="For VAE Decode.")],
        )

    @classmethod
    def validate_inputs(cls, solver_name: Any = None, solver: Any = NOTHING) -> bool | str:
        """With a solver connected, for which ComfyUI gives None here, solver_name is not used."""
        return DyWeightLoadSolver.validate_inputs(solver_name) if solver is NOTHING else True

    @classmethod
    def fingerprint_inputs(cls, solver_name: Any = None, solver: Any = NOTHING, **others: Any) -> str:
        return DyWeightLoadSolver.fingerprint_inputs(solver_name) if solver is NOTHING else ""

    @classmethod
    def execute(
        cls,
        model: Any,
        solver_name: str,
        steps: int,
        seed: int,
        denoise: float,
        solver: Passed | None = None,
        **inputs: Any,
    ) -> io.NodeOutput:
        file = solver_library.loaded(solver_name) if solver is None else as_file(solver)
        return io.NodeOutput(sample(model, file, steps, denoise, noise_seed=seed, **inputs))
