"""The node that makes the prompts of a fit."""

from typing import Any

from comfy_api.v0_0_2 import io

from ..comfyui.prompts import OWN_PROMPTS, lines
from . import messages, notes
from .types import TRAINING, schema


class DyWeightPrompts(io.ComfyNode):
    """CLIP, text -> a list of CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DyWeightPrompts",
            display_name="Prompts (DyWeight)",
            category=TRAINING,
            search_aliases=["prompt list", "several prompts"],
            description="Encodes several prompts for Fit Solver: your own, a line each, or some of the pack's.",
            is_experimental=True,
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder that you sample with."),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="A prompt a line, of what you want to sample. Empty: prompts that come with the pack.",
                ),
                io.Int.Input(
                    "count", default=16, min=1, max=288, tooltip="How many of the pack's prompts, where text is empty."
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "conditioning",
                    is_output_list=True,
                    tooltip="A list: for Fit Solver, or first for the nodes that you put between.",
                )
            ],
        )

    @classmethod
    def execute(cls, clip: Any, text: str, count: int) -> io.NodeOutput:
        if clip is None:
            raise notes.refusal(messages.NO_CLIP)
        return io.NodeOutput([clip.encode_from_tokens_scheduled(clip.tokenize(one)) for one in prompts(text, count)])


def prompts(text: str, count: int) -> list[str]:
    """The lines of a text, or `count` of the pack's prompts, evenly spread over them."""
    if own := _prompts(text):
        return own
    known = _prompts(OWN_PROMPTS.read_text("utf-8"))
    return [known[len(known) * i // count] for i in range(count)]


def _prompts(text: str) -> list[str]:
    return [line.strip() for line in lines(text) if line.strip()]
