"""The tables of results on the pages are those of the kept files, and the text around them quotes no other numbers."""

import re
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import pytest
from planted import config, plant

import taskcluster
from taskcluster.validation import UserError

ROOT = Path(taskcluster.__file__).parents[1]
sys.path.append(str(ROOT / "docs"))
import tables  # noqa: E402

EXPERIMENTS = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
PAGES = [page for page in tables.pages() if "<!-- results: " in page.read_text()]
NUMBER = r"(?<![\w.])-?\d+\.\d+\b(?! [GM]iB| s\b)|\d+(?= %)"
NOT_TEXT = (
    r"^```.*?^```",
    r"^<!-- results: .*\n(?:\|.*\n)*",
    r"`[^`]*`",
    r"\]\([^)]*\)",  # where a link leads
    r"<[^>]*>",
)
# What the text of a page quotes that is not of the kept runs: thresholds, settings, what other programs gave.
OTHERS: dict[str, set[str]] = {}


def names(text: str) -> list[str]:
    """The files that a page names."""
    return re.findall(r"^<!-- (?:results|numbers): (\w+) -->$", text, re.MULTILINE)


def quoted(text: str) -> Iterator[str]:
    """The numbers with a decimal point, and the percentages, of the text of a page without its tables of results."""
    for pattern in NOT_TEXT:
        text = re.sub(pattern, " ", text, flags=re.DOTALL | re.MULTILINE if "```" in pattern else re.MULTILINE)
    return (found[0] for found in re.finditer(NUMBER, text))


def kept(files: Sequence[str]) -> set[str]:
    """Every number of files, also rounded to fewer digits, and fractions as percentages."""
    cells = chain.from_iterable(chain.from_iterable(tables.read(file)) for file in files)
    numbers = {number for cell in cells for number in re.findall(r"-?\d+(?:\.\d+)?", cell)}
    fewer = {f"{float(n):z.{digits}f}" for n in numbers for digits in range(1, len(n.partition(".")[2]))}
    return numbers | fewer | {f"{100 * float(n):.0f}" for n in numbers | fewer if "." in n}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_rendering_again_gives_the_page(page: Path) -> None:
    assert tables.rendered(page.read_text()) == page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_text_quotes_only_numbers_of_the_files_that_the_page_names(page: Path) -> None:
    text = page.read_text()
    assert [n for n in quoted(text) if n not in kept(names(text)) | OTHERS.get(page.name, set())] == []
