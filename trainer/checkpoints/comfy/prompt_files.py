"""Files of prompts: one text a line, or a table with a column of them."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from comfyui.prompts import lines

from ...run.errors import CheckpointError

PROMPT_FIELDS = ("prompt", "text", "caption")
"""Names of the prompt's field in .jsonl and .csv; MS-COCO's captions are usually called text."""
PROMPT_FILES = f"give .txt with one prompt per line, or .jsonl or .csv with a field {', '.join(PROMPT_FIELDS)}"


def read_prompts(path: Path) -> list[str]:
    """The prompts of a .txt, .jsonl or .csv file, in order, without empty ones. Raises CheckpointError."""
    read = {".txt": lines, ".jsonl": _json_lines, ".csv": _table}.get(path.suffix.lower())
    if read is None:
        raise CheckpointError(f"--prompts {path}: {PROMPT_FILES}")
    try:
        # Excel and Notepad begin their files with a byte order mark.
        prompts = [*read(path.read_bytes().decode("utf-8-sig"))]
    except UnicodeDecodeError as error:
        raise CheckpointError(f"--prompts {path}: it is not UTF-8 ({error.reason}); save it as UTF-8") from error
    except (OSError, ValueError, csv.Error) as error:
        raise CheckpointError(f"--prompts {path}: can't be read ({error}); {PROMPT_FILES}") from error
    found = [prompt.strip() for prompt in prompts if isinstance(prompt, str) and prompt.strip()]
    if not found:
        raise CheckpointError(f"--prompts {path}: there is no prompt in it")
    return found


def _json_lines(text: str) -> Iterator[Any]:
    for number, line in enumerate(lines(text), 1):
        if line.strip():
            try:
                value = json.loads(line)
                yield value if isinstance(value, str) else _prompt_of(value)
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"line {number}: {error}") from error


def _table(text: str) -> Iterator[Any]:
    first, _, _ = text.partition("\n")
    delimiter = ";" if ";" in first and "," not in first else ","
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in rows:
            yield _prompt_of(row)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"line {rows.line_num}: {error}") from error


def _prompt_of(row: Mapping[str, Any]) -> Any:
    """The prompt among the fields of a row, whose names may differ in case and spaces."""
    names = {str(name).strip().lower(): name for name in row}
    field = next((names[name] for name in PROMPT_FIELDS if name in names), None)
    if field is None:
        raise ValueError(f"none of the fields {', '.join(map(str, row))} is {' or '.join(PROMPT_FIELDS)}")
    return row[field]
