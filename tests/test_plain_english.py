"""The dictionary of plain English: words and phrases that neither code nor pages use, each with what to write instead.

Checked are docstrings, comments and strings of the package, comments of its configuration, docstrings, comments and
names of tests, and the pages. A phrase that is needed, such as a title that is quoted, goes into ALLOWED.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

INSTEAD = {
    r"models? that others (have )?trained|others trained": "pretrained models",
    r"never (trained on|seen|asked)": "held-out",
    r"turn(s|ed)? (the |all |every |most |no )?answers?|turned to [AB]'s": "flips the answer to B's",
    r"(is|are|was|were|be) put (in|into|there)": "patched in; steered",
    r"put into x": "patched at x",
    r"told by": "specified by",
    r"(the )?noise of KMeans": "variance across KMeans seeds",
    r"common beginnings?": "shared prefix",
    r"(is|are|was|were) (asked|told|due)\b(?! for)": "is computed, receives, runs at",
    r"nobody is asked|(is|are) asked for": "is requested, is queried",
    r"whoever|whatever": "the noun itself",
    r"(one's|his) own": "your",
    r"anew": "again",
    r"goes on|go on": "continues",
    r"aloud": "is reported",
    r"what lasts|tests that last": "slow tests",
    r"said about|what is said": "the noun itself",
    r"there (is|are) nothing to": "say what is missing",
    r"not to be had": "cannot be downloaded",
    r"by turns": "in turn, alternately",
    r"finds? out|found out|tried out": "tests, plans",
    r"of which nothing": "say what is missing",
}
GAP = r"\s+(?:#\s*)?"  # also from one line of a comment to the next
PATTERNS = [rf"\b(?P<p{k}>{pattern.replace(' ', GAP)})" for k, pattern in enumerate(INSTEAD)]
BANNED = re.compile("|".join(PATTERNS), re.IGNORECASE)
ALLOWED = {"tests/test_plain_english.py"}

CODE = [*ROOT.glob("taskcluster/**/*.py*"), *ROOT.glob("hydra_plugins/*.py"), *ROOT.glob("docs/**/*.py")]
CODE += [*ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("conf/**/*.yaml")]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *ROOT.glob("docs/*.md"),
    ROOT / "benchmarks" / "README.md",
    ROOT / "mkdocs.yml",
]
NOT_PROSE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def relative(file: Path) -> str:
    return str(file.relative_to(ROOT))


def prose(file: Path) -> Iterator[tuple[int, str]]:
    """Yield every text in a file with its line: of Python, also names of tests; of other files, all but code."""
    text = file.read_text(encoding="utf-8")
    if file.suffix not in (".py", ".pyi"):
        without_code = NOT_PROSE.sub(lambda code: re.sub(r"[^\n]+", " ", code[0]), text)
        comments = "\n".join("".join(line.partition("#")[1:]) for line in text.splitlines())
        yield 1, without_code if file.suffix == ".md" else comments
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.lineno, node.name.replace("_", " ")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def faults(file: Path) -> list[str]:
    """Return a line for each banned phrase of a file, with what to write instead."""
    found = []
    for line, text in prose(file):
        for match in BANNED.finditer(text):
            at = line + text.count("\n", 0, match.start())
            instead = [*INSTEAD.values()][int(str(match.lastgroup)[1:])]
            found.append(f"{relative(file)}:{at}: {' '.join(match[0].split())!r}: {instead}")
    return found


@pytest.mark.parametrize("file", [file for file in CODE if relative(file) not in ALLOWED], ids=relative)
def test_code_is_in_plain_english(file: Path) -> None:
    assert faults(file) == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_pages_are_in_plain_english(page: Path) -> None:
    assert faults(page) == []


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        (
            "page.md",
            "One.\n\nModels that others\ntrained.\n",
            ["page.md:3: 'Models that others trained': pretrained models"],
        ),
        ("page.md", "`whatever`\n```sh\nwhoever\n```\n", []),
        ("keys.yaml", "told: 1\nkey: 2 # tasks told by pairs\n", ["keys.yaml:2: 'told by': specified by"]),
        ("code.py", 'def test_anew() -> None:\n    """It goes on."""\n', 2),
        ("code.py", "import os  # whatever\nx = f'{os} is put in'\n", 2),
    ],
)
def test_the_check_can_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, found: list[str] | int
) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / name).write_text(text)
    seen = faults(tmp_path / name)
    assert seen == found or len(seen) == found
