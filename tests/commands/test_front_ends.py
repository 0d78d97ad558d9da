"""Whatever is typed, and whatever a run folder holds, the commands answer in words and never with a traceback."""

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path

import pytest
from conftest import SMALL, Outcome, default
from hydra.core.global_hydra import GlobalHydra
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planted import config, plant, wanted

from taskcluster import dashboard, report, train
from taskcluster.results.findings import Findings
from taskcluster.results.tables import tables
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.resume import find_start, is_concluded, is_finished
from taskcluster.validation import UserError
from taskcluster.watch.watcher import Watcher

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
@given(
    words=st.lists(
        st.one_of(ODD, st.sampled_from(["--host", "--port", "--allow-host", "--wandb", "-h", "--", "."])), max_size=3
    )
)
def test_reports_and_pages_refuse_any_words(typed: Callable[..., Outcome], words: list[str]) -> None:
    for main, name in ((report.main, "taskcluster-report"), (dashboard_of_nothing, "taskcluster-dashboard")):
        outcome = typed(main, *words)
        assert outcome.exit_code in (0, 2), (words, outcome)
        assert "Traceback" not in outcome.err
        if outcome.exit_code == 2:
            assert outcome.err.startswith(f"{name}: "), (words, outcome)


def dashboard_of_nothing() -> None:
    """Reads the words and finds the folder, but serves nothing."""
    arguments = dashboard._arguments(sys.argv[1:])
    try:
        dashboard._root(arguments.root)
    except UserError as refusal:
        dashboard._report(str(refusal))
        sys.exit(2)


FILES = (
    "config.yaml",
    "status.json",
    "metrics.jsonl",
    "training.jsonl",
    "results.json",
    "checkpoints/step=000200.ckpt",
)
DAMAGES = st.one_of(
    st.tuples(st.just("cut"), st.integers(0, 400)),
    st.tuples(st.just("replace"), st.binary(max_size=60)),
    st.tuples(
        st.just("replace"),
        st.sampled_from(
            [b"null", b"[]", b"3", b'"x"', b"{}", b'{"step": "x"}\n', b'{"starts": 3}', b"a: [", b"\xff", b"!!x y"]
        ),
    ),
    st.tuples(st.just("flip"), st.integers(0, 2000)),
    st.tuples(st.just("folder"), st.none()),
    st.tuples(st.just("link"), st.none()),
    st.tuples(st.just("remove"), st.none()),
)


def harm(file: Path, how: str, what: object) -> None:
    content = file.read_bytes() if file.is_file() else b""
    if how != "cut" and how != "flip":
        with suppress(FileNotFoundError):
            file.unlink()
    if how == "cut":
        file.write_bytes(content[:what])  # type: ignore[misc]
    elif how == "replace":
        file.write_bytes(what)  # type: ignore[arg-type]
    elif how == "flip" and content:
        at = what % len(content)  # type: ignore[operator]
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    elif how == "folder":
        file.mkdir()
    elif how == "link":
        file.symlink_to("nowhere")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planted") / "sweep"
    for seed in (0, 1):
        run = plant(root / f"seed={seed}", 0.9, config(seed), kmeans=(0.0, 0.01))
        run.checkpoint(200).write_bytes(b"a checkpoint")
    return root


@pytest.fixture
def copied(sweep: Path, tmp_path: Path) -> Callable[[], Path]:
    def copy() -> Path:
        shutil.rmtree(tmp_path / "sweep", ignore_errors=True)
        return Path(shutil.copytree(sweep, tmp_path / "sweep"))

    return copy


@often
@given(
    harms=st.lists(st.tuples(st.sampled_from(FILES), DAMAGES), min_size=1, max_size=3, unique_by=lambda harm: harm[0])
)
def test_a_harmed_run_leaves_the_others_alone(
    copied: Callable[[], Path], harms: list[tuple[str, tuple[str, object]]]
) -> None:
    root = copied()
    run = RunFolder(root / "seed=1")
    for name, (how, what) in harms:
        harm(run.path / name, how, what)
    watcher = Watcher(root)
    watcher.scan()
    assert watcher.runs()[0].state == "finished"
    found = Findings(root)
    assert all(tables(found, [point for _, of_condition in found.points() for point in of_condition]))
    assert "seed=0" in {run.path for _, run, _ in found.tidy()}
    with suppress(UserError):
        if is_finished(run, wanted(1)):
            is_concluded(run)
        else:
            find_start(run, wanted(1))
