"""The prompts that come with the pack."""

from comfyui.prompts import OWN_PROMPTS


def prompts() -> list[str]:
    return OWN_PROMPTS.read_text("utf-8").removesuffix("\n").split("\n")


def test_there_are_enough_and_all_differ():
    assert len(prompts()) >= 256
    assert len({" ".join(prompt.lower().split()) for prompt in prompts()}) == len(prompts())


def test_each_line_is_a_prompt():
    assert all(prompt and prompt == prompt.strip() and "\t" not in prompt for prompt in prompts())


def test_short_and_long_sentences_and_lists_are_among_them():
    lengths = sorted(len(prompt.split()) for prompt in prompts())
    assert sum(length <= 4 for length in lengths) >= 10
    assert sum(length >= 25 for length in lengths) >= 10
    assert lengths[-1] <= 60  # about what a CLIP text encoder reads
    assert sum(prompt.count(",") >= 3 for prompt in prompts()) >= 30
    assert sum('"' in prompt for prompt in prompts()) >= 8
    assert sum(not prompt.isascii() for prompt in prompts()) >= 8
