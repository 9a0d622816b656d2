"""The prompts that come with the pack, and a text with a prompt a line."""

import re
from pathlib import Path

OWN_PROMPTS = Path(__file__).parent / "prompts.txt"


def lines(text: str) -> list[str]:
    """The lines of a text. str.splitlines would also split at characters that captions hold, such as U+2028."""
    return re.split("\r\n|\r|\n", text)
