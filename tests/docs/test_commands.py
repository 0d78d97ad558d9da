"""Every command of README and docs as it is written: in a shell, page after page, in one copy of the tree."""

import re
from itertools import takewhile
from pathlib import Path

import pytest
from written import ELSEWHERE, blocks, clone, commands, elsewhere, here, pages, run, script

PLACEHOLDER = r"(?<![\w$.{])[A-Z]{3,}\b(?!=)"  # RUN, FOLDER: words that a reader would have to replace
LEFT = ("NAME/MODEL", "ENTITY/PROJECT/SWEEP", "PARTITION", "HOST:PORT", "MACHINE")  # of an account, or a cluster

ALL = [
    (page, line)
    for page in pages()
    for block in blocks(page)
    if block.language == "sh"
    for line in commands(block.text)
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a reader has it who begins with the README: a clone, and what the pages so far have made."""
    folder = tmp_path_factory.mktemp("tree")
    clone(folder)
    return folder


def test_only_what_needs_an_account_or_a_cluster_has_a_placeholder() -> None:
    for page, line in ALL:
        written = line
        for name in LEFT if elsewhere(line) else ():
            written = written.replace(name, "")
        assert not re.search(PLACEHOLDER, re.sub(r"\b[A-Z_]+=|\$[A-Z]+", "", written)), f"{page.name}: {line}"


def test_what_is_not_run_is_listed_with_its_reason_and_still_written() -> None:
    for pattern in ELSEWHERE:
        assert [line for _, line in ALL if re.search(pattern, line)], f"no command has {pattern}"
    run_here = [line for _, line in ALL if not elsewhere(line)]
    assert len(run_here) > 80
    assert {"taskcluster-train", "taskcluster-analyze", "taskcluster-export", "taskcluster-report", "make"} <= {
        line.split()[0] for line in run_here
    }


@pytest.mark.documented
@pytest.mark.parametrize("page", [page for page in pages() if script(page).strip()], ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_as_they_are_written(page: Path, tree: Path) -> None:
    done = {line for earlier in takewhile(lambda other: other != page, pages()) for line in here(earlier)}
    settings = {line for line in done if "taskcluster" not in line}
    code, printed = run(page, tree, done - settings)
    assert code == 0, printed[-3000:]
    assert "Traceback" not in printed
