"""Every sentence that a user can get, read from the source: listed in messages.txt, and checked for common faults.
test_plain_english.py checks its words.

`python tests/test_messages.py` writes the list again after sentences have changed; read what `git diff` shows.
"""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "taskcluster"
LIST = Path(__file__).with_name("messages.txt")

SAYS = {"say", "report", "print", "add_argument", "Parser", "not_text", "refusal"}  # besides what is raised
PROSE = re.compile(r"[a-z]{2,}[,;:]? [a-z]+[,;:]? [a-z]+")  # three words: a sentence, wherever it is put together
CODE = re.compile(r"</|=>|datum\.|\bimport |^\s*<|\\[bdsw]|\.\*|\(\.|-src '")  # of pages, charts and patterns
DATA = {"tasks/paraphrases.py", "tasks/words.py", "tasks/countries.py"}


class Sentence(NamedTuple):
    """text: with its expressions in braces; raised: whether it is an error's."""

    text: str
    raised: bool


def sentences(file: Path) -> list[Sentence]:
    """Return what a module raises or prints, and all other prose in it except docstrings."""
    tree = ast.parse(file.read_text())
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found: dict[str, Sentence] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr | ast.Constant) or isinstance(parents[node], ast.JoinedStr | ast.Expr):
            continue
        if isinstance(node, ast.Constant) and not isinstance(node.value, str):
            continue
        text = shown(node)
        statement, calls = around(node, parents)
        prose = PROSE.search(re.sub(r"\{.*?\}", "it", text)) or isinstance(statement, ast.Raise) or calls & SAYS
        if prose and " " in text.strip() and not CODE.search(text):
            found[text] = Sentence(text, isinstance(statement, ast.Raise))
    return [*found.values()]


def shown(node: ast.JoinedStr | ast.Constant) -> str:
    """Return a string with its expressions in braces."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    texts = [part.value if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}" for part in parts]
    return "".join(map(str, texts))


def around(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> tuple[ast.AST, set[str]]:
    """Return the statement that contains a string, and the functions that receive it."""
    calls = set()
    while not isinstance(node, ast.stmt):
        node = parents[node]
        if isinstance(node, ast.Call):
            calls.add(ast.unparse(node.func).rpartition(".")[2])
    return node, calls


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if str(file.relative_to(PACKAGE)) not in DATA]
ALL = {file: found for file in FILES if (found := sentences(file))}


def listed() -> str:
    blocks = ([f"# {file.relative_to(PACKAGE)}", *(" ".join(s.text.split()) for s in ALL[file])] for file in ALL)
    return "\n\n".join(map("\n".join, blocks)) + "\n"


def test_the_list_of_sentences_is_up_to_date() -> None:
    assert LIST.read_text() == listed(), "run `python tests/test_messages.py`, and read what changed"


@pytest.mark.parametrize("file", ALL, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_sentences_of_errors_are_whole(file: Path) -> None:
    for sentence in ALL[file]:
        assert not sentence.raised or "  " not in sentence.text, f"{sentence.text!r} has two spaces in a row"
        assert not sentence.raised or not sentence.text.endswith("."), f"{sentence.text!r} ends with a full stop"


if __name__ == "__main__":
    LIST.write_text(listed())
