"""One look for all tables of numbers: Markdown that is aligned, to read in a terminal and to paste into a page."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The first column stands on the left, the others on the right."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    first, *others = (max(map(len, column)) for column in zip(*cells, strict=True))
    cells.insert(1, ["-" * first, *("-" * (width - 1) + ":" for width in others)])
    lines = ([row[0].ljust(first), *map(str.rjust, row[1:], others)] for row in cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
