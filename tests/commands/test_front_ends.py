"""Commands answer any words with a sentence and never with a traceback."""

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from conftest import SMALL, Outcome, default
from hydra.core.global_hydra import GlobalHydra
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskcluster import report, train

REFUSED = "model.n_head=3"  # does not divide the width: no command here gets as far as training

KEYS = sorted(
    {"seed", "name", "ckpt_path", "resume", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "experiment"}
    | {f"{group}.{key}" for group, node in default().items() if isinstance(node, dict) for key in node}
    | {group for group, node in default().items() if isinstance(node, dict)}
)
ODD = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
GRAMMAR = """0,1|[|]|{a:1}|{a|${x}|${|'|"|null|nan|-1|1e999|range(0,3)|choice(1,2)|interval(0,1)|glob(*)|~|a=b|a b|\\|
\t|\n|josé|true|[1,[2]]|a,b'|!!python/name:os|$|#|{}|[]|<|@"""
VALUES = st.one_of(ODD, st.sampled_from(GRAMMAR.split("|")))
OVERRIDES = st.one_of(
    st.tuples(st.sampled_from(["", "+", "++", "~"]), st.sampled_from(KEYS), st.just("="), VALUES).map("".join),
    st.tuples(st.sampled_from(["~", "", "+"]), st.sampled_from(KEYS)).map("".join),
    st.tuples(ODD, st.sampled_from(["", "=", "=="]), VALUES).map("".join),
)
FLAGS = st.sampled_from(
    [
        *("-m", "--multirun", "--cfg", "job", "--cfg=hydra", "-c", "--resolve", "--config-dir", "--config-name=train"),
        *("-x", "-", "--", "-cd", "--package=model", "--info", "--hydra-help", "--version", "--shell-completion"),
        "--experimental-rerun",
    ]
)
LINES = st.lists(st.one_of(OVERRIDES, OVERRIDES, OVERRIDES, FLAGS), max_size=5)

often = settings(
    max_examples=int(os.environ.get("FRONT_ENDS", "15")), deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """A command of ours with these words, in an empty folder, and what it printed."""

    def run(main: Callable[[], None], *words: str) -> Outcome:
        folder = tmp_path / "here"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["command", *words])
        GlobalHydra.instance().clear()
        out, err, code = StringIO(), StringIO(), 0
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main()
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Outcome(code, out.getvalue(), err.getvalue())

    return run


@often
@given(line=LINES)
def test_any_command_line_is_answered_in_words(typed: Callable[..., Outcome], line: list[str]) -> None:
    outcome = typed(train.main, *SMALL, *line, REFUSED)
    assert outcome.exit_code in (0, 2), (line, outcome)
    assert "Traceback" not in outcome.out + outcome.err, (line, outcome)
    if outcome.exit_code == 2:
        assert outcome.err.startswith("taskcluster-train: "), (line, outcome)
        if not {"-m", "--multirun"} & set(line):
            assert len(outcome.err.splitlines()) == 1, (line, outcome)


@often
@given(words=st.lists(st.one_of(ODD, st.sampled_from(["--wandb", "-h", "--", "."])), max_size=3))
def test_the_report_refuses_any_words(typed: Callable[..., Outcome], words: list[str]) -> None:
    outcome = typed(report.main, *words)
    assert outcome.exit_code in (0, 2), (words, outcome)
    assert "Traceback" not in outcome.err
    if outcome.exit_code == 2:
        assert outcome.err.startswith("taskcluster-report: "), (words, outcome)
