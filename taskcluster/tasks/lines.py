"""A pair as a file has it, and the line that cannot be used."""

import re
from typing import NamedTuple

COLUMNS = ("input", "output")
LINE_END = re.compile(r"\r\n?|\n")  # what ends a line; str.splitlines cuts at ten other symbols, which texts may hold


class Unusable(ValueError):
    """A line of a file, and what is wrong with it."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")


class Entry(NamedTuple):
    line: int
    x: object
    y: object


def shown(value: object) -> str:
    """What stands in a file, not more of it than fits in a sentence."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
