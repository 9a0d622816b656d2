"""The node that fits a solver to the model on the canvas."""

from typing import Any

from comfy_api.v0_0_2 import io

from . import messages, notes
from .comfy_sampling import schedulers
from .types import TRAINING, SolverType, schema


class DyWeightFit(io.ComfyNode):
    """Model, prompts, guidance, size -> a file in models/dyweight, and its solver."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DyWeightFit",
            display_name="Fit Solver (DyWeight)",
            category=TRAINING,
            search_aliases=["train", "finetune", "fit", "make a solver"],
            description="Makes a solver file for the very model that is connected, with its LoRAs and patches: it "
            "samples with the model for minutes or hours, and from then on few steps do.",
            is_output_node=True,
            is_input_list=True,
            is_experimental=True,
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            inputs=[
                io.Latent.Input("latent_image", tooltip="An empty latent of the size that you want to sample."),
                io.String.Input(
                    "steps",
                    default="6",
                    tooltip="Number of steps that the file is for, one network call each; several such as 4,6,8.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=schedulers(),
                    default="simple",
                    tooltip="The schedule that the fit begins with: that of your usual KSampler.",
                ),
                io.Combo.Input(
                    "effort",
                    options=["draft", "normal", "thorough"],
                    default="draft",
                    tooltip="How many network calls it may make: at 5 steps a draft 1,500, normal 6,000, thorough "
                    "18,000. The node says how long that is before it begins.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0x7FFFFFFFFFFFFFFF,
                    control_after_generate=False,
                    tooltip="The noise that it learns from. Another one is another fit.",
                ),
                io.String.Input(
                    "name",
                    default="%model%-%steps%",
                    tooltip="Name of the file in models/dyweight, which is never overwritten: a number is added. "
                    "%model%, %steps% and %width% are filled in.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model as you sample it: after its LoRAs and ModelSampling nodes.",
                ),
                io.Conditioning.Input(
                    "positive",
                    optional=True,
                    tooltip="Several prompts, from Prompts (DyWeight): with only one, the file may work only for that "
                    "prompt.",
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="What the pictures should not show; without effect where cfg is 1.",
                ),
                io.Float.Input(
                    "cfg",
                    optional=True,
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="The cfg that you want to sample with.",
                ),
                io.Guider.Input(
                    "guider",
                    optional=True,
                    tooltip="Instead of model, negative and cfg, as for SamplerCustomAdvanced; positive gives it "
                    "other prompts than its own.",
                ),
                io.Vae.Input(
                    "vae", optional=True, tooltip="For pictures to look at; without it they are small and rough."
                ),
                io.Model.Input(
                    "model_low",
                    optional=True,
                    tooltip="Of two models as in Wan 2.2, the one for low noise; model is the one for high noise. One "
                    "file is made for both.",
                ),
                io.String.Input(
                    "boundary",
                    optional=True,
                    default="0.875",
                    tooltip="The noise level below which model_low runs, 0.875 for Wan 2.2 from text, 0.9 from a "
                    "picture; or the step at which your two KSampler (Advanced) change models, such as 10/20. Without "
                    "effect where model_low is not connected.",
                ),
            ],
            outputs=[
                SolverType.Output("solver", tooltip="For KSampler (DyWeight), Apply Solver or Sampler (DyWeight)."),
                io.Image.Output(
                    "comparison",
                    tooltip="Up to four rows, of noises that the fit never saw: the teacher's picture, the solver's, "
                    "and that of the best of ComfyUI's samplers in as many steps.",
                ),
                io.String.Output("info", tooltip="What came out, in a few lines, for Preview as Text."),
            ],
        )

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        """All inputs are lists. Raises ValueError, whose sentence says what to change."""
        from .fit_run import FitInputs, run  # not before: it brings the trainer

        if not inputs.get("guider") and not (inputs.get("model") and inputs.get("positive")):
            raise notes.refusal(messages.FIT_NEEDS)
        node, graph = (str(cls.hidden.unique_id), cls.hidden.prompt) if cls.hidden else ("", None)
        done = run(FitInputs.of(inputs), node, graph or {})
        return io.NodeOutput(done.file, done.image, done.info, ui={"text": (done.info,)})
