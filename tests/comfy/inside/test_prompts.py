"""Prompts (DyWeight): a prompt a line, or the pack's own."""

import pytest
from sampling_tools import call


class Clip:
    """Gives back the text as its condition."""

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, tokens):
        return tokens


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("a fox\ntwo hares\r\n\n  an owl \r", ["a fox", "two hares", "an owl"]),
        ("one\u2028caption\u0085of\x0cfour\x1clines", ["one\u2028caption\u0085of\x0cfour\x1clines"]),
    ],
)
def test_only_newlines_split_a_text(node_classes, text, prompts):
    assert call("DyWeightPrompts", clip=Clip(), text=text, count=2) == prompts


def test_a_checkpoint_without_a_text_encoder_is_told_what_to_connect(node_classes):
    with pytest.raises(ValueError, match="Connect Load CLIP to Prompts"):
        call("DyWeightPrompts", clip=None, text="a fox", count=1)


def test_without_a_text_they_are_the_packs_evenly_spread(node_classes):
    all_of_them = call("DyWeightPrompts", clip=Clip(), text=" \n", count=288)
    assert len(set(all_of_them)) == 288
    assert call("DyWeightPrompts", clip=Clip(), text="", count=3) == all_of_them[::96]
