"""Whether the first line of a table names its columns, where nobody said that it does."""

import re
from collections.abc import Sequence

from taskcluster.tasks.lines import COLUMNS

ENOUGH = 3  # lines after the first, to compare it with
COMMON = """
    x y inputs outputs source target src tgt key value id name label word words text term phrase sentence meaning
    definition translation synonym antonym question answer query response prompt completion instruction context category
    class type description subject object relation singular plural past_tense verb noun adjective letter length number
    country capital city continent region currency language demonym domain code person company product
    english french german spanish italian portuguese dutch russian chinese japanese en fr de es it
"""  # without words that are pairs themselves, such as left and right
NAMES = frozenset(COMMON.split())


def looks_like_header(first: Sequence[str], others: Sequence[Sequence[str]], task: str) -> bool:
    """first: the cells of the first line. others: those of the lines after it. task: the name of the file.

    Limitation: a header of unusual words above lines that look like it is not recognized.
    """
    names = [cell.strip().casefold().replace(" ", "_") for cell in first]
    if any(name in COLUMNS for name in names) or all(name in NAMES for name in names):
        return True
    words, of_task = [_words(cell) for cell in first], _words(task)
    if of_task in words or all(cell and {*cell} <= {*of_task} for cell in words):
        return True
    return len(others) >= ENOUGH and (
        any(_differs(cell, column) for cell, column in zip(first, zip(*others, strict=True), strict=True))
        or (_capitalized(first) and not any(map(_capitalized, others)))
    )


def _words(text: str) -> list[str]:
    """In lower case, without the endings of singular and plural."""
    return [re.sub("(ies|y|s)$", "", word) for word in re.findall(r"[^\W_]+", text.casefold())]


def _differs(cell: str, others: Sequence[str]) -> bool:
    """Whether all other cells of a column are numbers, or single characters, and this one is not."""
    return any(all(map(kind, others)) and not kind(cell) for kind in (_is_number, lambda text: len(text.strip()) == 1))


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*[-+]?\d+([.,]\d+)?\s*", text) is not None


def _capitalized(cells: Sequence[str]) -> bool:
    return all(cell.strip()[:1].isupper() for cell in cells)
