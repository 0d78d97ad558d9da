"""Run folders whose files are cut, foreign, of another type or in the way, and what every reader makes of them."""

import html
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL, Outcome
from faults import fill
from planted import config, plant, wanted

from taskcluster import load_run
from taskcluster.dashboard import Dashboard
from taskcluster.metrics import OWN
from taskcluster.results.findings import Findings
from taskcluster.results.frame import Frames
from taskcluster.results.tables import tables
from taskcluster.runs.analyses import Analysis
from taskcluster.runs.folder import RunFolder, digest_file
from taskcluster.runs.resume import find_start, is_finished
from taskcluster.validation import UserError
from taskcluster.watch.live import Live
from taskcluster.watch.watcher import Watcher

FILES = (
    "config.yaml",
    "catalogue.json",
    "status.json",
    "results.json",
    "metrics.jsonl",
    "training.jsonl",
    ".lock",
    ".holder",
)
CONTENTS = {
    "empty": b"",
    "binary": bytes(range(256)),
    "not UTF-8": b'{"state": "\xff\xfe"}\n',
    "a list": b"[1, 2]\n",
    "a number": b"3\n",
    "null": b"null\n",
    "no keys": b"{}\n",
    "deep": b"[" * 100_000 + b"]" * 100_000 + b"\n",
    "a surrogate": b'{"state": "\\ud800", "seed": "\\ud800"}\n',
    "a huge number": b'{"step": 1' + b"0" * 400 + b', "starts": [{"step": 1' + b"0" * 400 + b"}]}\n",
}


def _link(path: Path, target: str) -> None:
    path.symlink_to(target)


REPLACED: dict[str, Callable[[Path], None]] = {
    "missing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "a dangling link": lambda path: _link(path, "nowhere"),
    "a link loop": lambda path: _link(path, path.name),
    "a pipe": lambda path: os.mkfifo(path),
    "a device": lambda path: _link(path, "/dev/zero"),
} | {name: lambda path, content=content: path.write_bytes(content) and None for name, content in CONTENTS.items()}  # type: ignore[misc]


def _edited(**changes: Any) -> Callable[[Path], None]:
    """Other values of some keys, of the last line where there are several; ... removes one."""

    def edit(path: Path) -> None:
        *lines, last = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        row = json.loads(last) | changes
        lines.append(json.dumps({key: value for key, value in row.items() if value is not ...}))
        path.write_text("\n".join(lines) + "\n")

    return edit


START = {
    "time": "2026-01-01T00:00:00+00:00",
    "step": 0,
    "max_steps": 200,
    "machine": "m",
    "device": "cpu",
    "threads": 1,
}
EDITED: list[tuple[str, Callable[[Path], None]]] = [
    ("status.json", _edited(starts=3)),
    ("status.json", _edited(starts=[])),
    ("status.json", _edited(starts=...)),
    ("status.json", _edited(starts=[None])),
    ("status.json", _edited(starts=[{"step": "x"}])),
    ("status.json", _edited(starts=[START])),
    ("status.json", _edited(starts=[START | {"versions": {}, "max_steps": 10**30}])),
    ("status.json", _edited(starts=[START | {"versions": 3}])),
    ("status.json", _edited(step="x")),
    ("status.json", _edited(step=10**30)),
    ("status.json", _edited(wall_seconds=None)),
    ("status.json", _edited(wall_seconds=float("nan"))),
    ("status.json", _edited(wall_seconds=...)),
    ("status.json", _edited(state="paused")),
    ("status.json", _edited(state=["finished"])),
    ("status.json", _edited(state=...)),
    ("status.json", _edited(error={"a": 1}, state="failed")),
    ("results.json", _edited(claims=3)),
    ("results.json", _edited(claims=[{"name": "x"}])),
    ("results.json", _edited(claims=...)),
    ("results.json", _edited(final=[])),
    ("results.json", _edited(controls={"ari_kmeans_sd": [1]})),
    ("results.json", _edited(controls={"ari_kmeans_sd": [[0.5, 0.6]], "ari_shuffled": [[0.0]] * 9})),
    ("results.json", _edited(controls={"ari_kmeans_sd": []})),
    ("results.json", _edited(controls="many")),
    ("catalogue.json", _edited(metrics=3)),
    ("catalogue.json", _edited(metrics=[])),
    ("catalogue.json", _edited(metrics=[{"key": "1", "name": "one"}])),
    ("catalogue.json", _edited(metrics=[{"key": "ari", "name": "ARI", "low": "0", "of": "none", "since": 2}])),
    ("catalogue.json", _edited(metrics=[{"key": "ari", "name": "ARI", "views": ["everywhere"]}])),
    ("catalogue.json", _edited(metrics=[{"key": "ari", "name": "ARI", "views": "tables"}])),
    ("metrics.jsonl", _edited(step=...)),
    ("metrics.jsonl", _edited(step="200")),
    ("metrics.jsonl", _edited(step=-1)),
    ("metrics.jsonl", _edited(step=10**30)),
    ("metrics.jsonl", _edited(step=True)),
    ("metrics.jsonl", _edited(elapsed="long")),
    ("metrics.jsonl", _edited(**{"val/accuracy": "0.9"})),
    ("metrics.jsonl", _edited(**{"val/loss": float("nan")})),
    ("metrics.jsonl", _edited(**{"ari/val/layer_0": ...})),
    ("metrics.jsonl", _edited(**{"ari_within_x/val/layer_0": ...})),
    ("metrics.jsonl", _edited(**{"ari/val/layer_x": 1})),
    ("metrics.jsonl", _edited(**{"ari/val/layer_99999999": 1})),
    ("metrics.jsonl", lambda path: path.write_bytes(path.read_bytes()[:-30]) and None),
    ("metrics.jsonl", lambda path: path.write_text("[]\n" + path.read_text()) and None),
    ("config.yaml", lambda path: path.write_bytes(path.read_bytes()[:40]) and None),
    ("config.yaml", lambda path: path.write_text("seed: 1\ntrainer: null\n") and None),
    ("config.yaml", lambda path: path.write_text("seed: 1\ntrainer: {max_steps: many}\n") and None),
    ("config.yaml", lambda path: path.write_text("seed: 1\nseeds: [1]\n") and None),
    ("config.yaml", lambda path: path.write_text("seed: 1\n3: {1: 2, a: 3}\n") and None),
    ("config.yaml", lambda path: path.write_text("seed: &s [*s]\n") and None),
    ("config.yaml", lambda path: path.write_text("seed: !!python/object/apply:os.getcwd []\n") and None),
]  # fmt: skip
HARMLESS = {"training.jsonl", ".lock", ".holder"}  # which a finished run does without


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three finished runs with a checkpoint each."""
    folder = tmp_path_factory.mktemp("whole")
    for seed in range(3):
        run = plant(folder / f"seed={seed}", 0.9, config(seed), kmeans=(0.0, 0.01))
        run.append_training({"step": 200, "train/batch_loss": 1.0}, elapsed=1.0)
        (run.path / ".lock").touch()
        run.checkpoint(200).write_bytes(b"any")
    return folder


@pytest.fixture
def sweep(whole: Path, tmp_path: Path) -> Path:
    """A copy, of whose runs the second is to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "s"))


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """A test here takes a second; what waits for a pipe would take for ever."""

    def ended(number: int, _: Any) -> None:
        pytest.fail("hangs")

    before = signal.signal(signal.SIGALRM, ended)
    signal.alarm(200)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def seen(sweep: Path) -> tuple[list[str], list[str], list[str]]:
    """What report, live page and a further start make of the runs: names of those that count, states, sentences."""
    found = Findings(sweep)
    points = [point for _, of_condition in found.points() for point in of_condition]
    assert points
    assert tables(found, points)
    assert len(Frames(found).numbers())
    told = json.loads(Dashboard(sweep).view("0"))
    states = {run["name"]: run["state"] for run in told["runs"]}
    sentences = []
    for seed in range(3):
        run = RunFolder(sweep / f"seed={seed}")
        try:
            whole = is_finished(run, wanted(seed))
            sentences.append("finished" if whole else f"from {find_start(run, wanted(seed)).step}")
        except UserError as error:
            sentences.append(str(error))
    return [run.path for run in found.runs], [states.get(f"seed={k}", "") for k in range(3)], sentences


def assert_only_the_second_suffers(sweep: Path) -> tuple[str, str]:
    runs, states, sentences = seen(sweep)
    assert {"seed=0", "seed=2"} <= {*runs}
    assert (states[0], states[2]) == ("finished", "finished")
    assert (sentences[0], sentences[2]) == ("finished", "finished")
    assert "\n" not in sentences[1]
    return states[1], sentences[1]


@pytest.mark.parametrize("kind", REPLACED)
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_one_run_takes_no_other_along(sweep: Path, name: str, kind: str) -> None:
    file = sweep / "seed=1" / name
    file.unlink(missing_ok=True)
    REPLACED[kind](file)
    before = listing(sweep)
    _state, sentence = assert_only_the_second_suffers(sweep)
    assert listing(sweep) == before
    if name in HARMLESS or (name == "catalogue.json" and kind in ("missing", "a dangling link")):
        assert sentence == "finished"
    else:
        assert name in sentence or "another configuration" in sentence or sentence == "from None"
        (gap,) = Findings(sweep).gaps[:1]
        assert name in gap or gap == "seed=1: new before its first step"


@pytest.mark.parametrize("case", range(len(EDITED)))
def test_a_value_of_one_run_takes_no_other_along(sweep: Path, case: int) -> None:
    name, edit = EDITED[case]
    file = sweep / "seed=1" / name
    edit(file)
    assert_only_the_second_suffers(sweep)


@pytest.mark.parametrize("again", [[0], [1], [4], [0, 1, 2, 3, 4]], ids=str)
def test_a_journal_that_two_processes_wrote_is_named_by_every_reader(sweep: Path, again: list[int]) -> None:
    """Lines of the journal once more at its end, where the last step would hide it."""
    run = RunFolder(sweep / "seed=1")
    lines = run.journal.read_text().splitlines(keepends=True)
    run.journal.write_text("".join([*lines, *(lines[k] for k in again), *lines[4:] * (again[-1] != 4)]))
    step = 50 * again[0]
    problem = f"line 6 has step {step} again after step 200: two processes wrote this file"
    said = f"{run.journal} is damaged ({problem}); restore a copy of it, or move {run.path} away and rerun the command"
    state, sentence = assert_only_the_second_suffers(sweep)
    assert (state, sentence) == ("damaged", said)
    assert said in Findings(sweep).gaps
    (problem_live,) = [live.problem for live in scanned(sweep) if live.name == "seed=1"]
    assert problem in problem_live
    with pytest.raises(UserError, match="two processes wrote this file"):
        load_run(run.path)
    with pytest.raises(UserError, match="two processes wrote this file"):
        _ = Analysis(run, run, [0], {}, wanted(1)).done
    run.write_status("interrupted")
    with pytest.raises(UserError, match="two processes wrote this file"):
        find_start(run, wanted(1))


def scanned(root: Path) -> list[Live]:
    live = Watcher(root)
    live.scan()
    return live.runs()


def test_a_live_page_notices_a_second_writer(sweep: Path) -> None:
    run = RunFolder(sweep / "seed=1")
    live = Watcher(sweep)
    live.scan()
    with run.training.open("a") as lines:
        lines.write('{"step": 190}\n')
    live.scan()
    (problem,) = [found.problem for found in live.runs() if found.name == "seed=1"]
    assert problem.endswith("line 1 has step 190 after step 200: two processes wrote this file")


def listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns) for path in folder.rglob("*"))


@pytest.mark.parametrize("kind", ["a folder", "a dangling link", "a link loop", "a pipe", "empty", "not UTF-8"])
@pytest.mark.parametrize("name", ["step=000200.ckpt", "step=000200.ckpt.sha256", ".step=000200.ckpt.partial"])
def test_a_checkpoint_that_cannot_be_used_is_passed_over_or_refused(sweep: Path, name: str, kind: str) -> None:
    run = RunFolder(sweep / "seed=1")
    digest_file(run.checkpoint(200)).touch()
    file = run.checkpoints / name
    file.unlink(missing_ok=True)
    REPLACED[kind](file)
    run.write_status("interrupted")
    in_the_way = kind in ("a folder", "a pipe")
    try:
        start = find_start(run, wanted(1))
        assert start.step is None
        run.start(wanted(1).as_dict(), None, OWN)
        assert run.saved() == []
        assert not in_the_way
    except UserError as error:
        assert in_the_way
        assert str(error) == f"{file} is not a file; move it away, or choose another folder"  # noqa: PT017


@pytest.mark.parametrize(
    "name",
    ["step=abc.ckpt", "foo=bar.ckpt", "step=.ckpt", "step=20.ckpt", "step=٣٣٣٣٣٣.ckpt", "last=-00005.ckpt", "=.ckpt",
     "step=000020 (copy).ckpt", "step=0000\n20.ckpt", os.fsdecode(b"step=\xff.ckpt"), "step=[20].ckpt"],
)  # fmt: skip
def test_foreign_names_among_the_checkpoints_stay(sweep: Path, name: str) -> None:
    run = RunFolder(sweep / "seed=1")
    (run.checkpoints / name).write_bytes(b"mine")
    assert [step for step, _ in run.saved()] == [200]
    run.write_status("interrupted")
    assert find_start(run, wanted(1)).step is None
    run.start(wanted(1).as_dict(), None, OWN)
    assert (run.checkpoints / name).read_bytes() == b"mine"


@pytest.mark.parametrize("kind", ["empty", "a dangling link", "a link loop", "a pipe"])
@pytest.mark.parametrize("name", ["checkpoints", "figures"])
def test_what_is_no_folder_is_refused_before_anything_is_written(sweep: Path, name: str, kind: str) -> None:
    run = RunFolder(sweep / "seed=1")
    shutil.rmtree(run.path / name)
    REPLACED[kind](run.path / name)
    assert_only_the_second_suffers(sweep)
    run.write_status("failed")
    before = listing(sweep)
    with pytest.raises(UserError, match=f"{name} is not a folder; move it away, or choose another"):
        find_start(run, wanted(1))
    assert listing(sweep) == before


@pytest.mark.parametrize(
    "name", ["seed=0 (copy)", "two\nlines", "[/red][bold", os.fsdecode(b"no text \xff"), "²", "<b>", "a|b"]
)
def test_names_are_shown_whatever_they_are(sweep: Path, name: str) -> None:
    plant(sweep / name / "seed=7", 0.8, config(7))
    plant(sweep / f"{name}2", 0.8, config(8), finished=False)
    assert_only_the_second_suffers(sweep)
    found = Findings(sweep)
    assert len(found.runs) == 4
    "".join([*found.gaps, *(run.path for run in found.runs)]).encode()
    assert not any("\n" in run.path for run in found.runs)


@pytest.mark.parametrize("name", ["config.yaml", "status.json"])
@pytest.mark.parametrize("where", [".", "..", "seed=1/wandb/run-1/files"])
def test_foreign_files_of_our_names_hide_no_run(sweep: Path, name: str, where: str) -> None:
    (sweep / where).mkdir(parents=True, exist_ok=True)
    (sweep / where / name).write_text("{other: tool}")
    assert {"seed=0", "seed=1", "seed=2"} <= {run.path for run in Findings(sweep).runs}
    live = Watcher(sweep)
    live.scan()
    assert len(live.runs()) == (4 if where == "." else 3)


@pytest.mark.parametrize("kind", ["empty", "a dangling link", "a link loop"])
def test_a_report_that_cannot_be_written_is_one_sentence(sweep: Path, kind: str) -> None:
    from taskcluster.pages.multirun_report import write

    REPLACED[kind](sweep / "report")
    with pytest.raises(UserError, match=r"report: it is not a folder; move it away, or choose another place"):
        write(sweep)


@pytest.mark.parametrize("name", ["table.csv", "table.parquet", "ari.png", "index.html"])
def test_a_folder_in_place_of_a_part_of_the_report_is_one_sentence(sweep: Path, name: str) -> None:
    from taskcluster.pages.multirun_report import write

    (sweep / "report" / name).mkdir(parents=True)
    with pytest.raises(UserError, match=f"report/{name}: Is a directory; move it away"):
        write(sweep)
    assert not list((sweep / "report").glob(".*"))


def test_a_report_on_a_full_disk_is_one_sentence_and_the_one_before_stays(whole: Path, small_disk: Path) -> None:
    from taskcluster.pages.multirun_report import write

    root = small_disk / "s"
    shutil.copytree(whole, root)
    before = listing(write(root).parent)
    filler = fill(small_disk)
    with pytest.raises(UserError, match=r"report: No space left on device; make room and rerun the command"):
        write(root)
    assert listing(root / "report") == before
    filler.unlink()
    write(root)


DAMAGES = [
    ("status.json", "empty"),
    ("status.json", "a list"),
    ("config.yaml", "a folder"),
    ("config.yaml", "missing"),
    ("results.json", "a pipe"),
    ("metrics.jsonl", "empty"),
]


@pytest.mark.lasting
@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_multirun_and_a_run_in_damaged_folders(taskcluster_train: Callable[..., Outcome], tmp_path: Path) -> None:
    command = ["-m", *SMALL, "hydra.sweep.subdir=run_${seed}", "seed=0,1"]
    assert taskcluster_train(*command[:-1], "seed=1").exit_code == 0
    root = tmp_path / "multirun/default"
    run = RunFolder(root / "run_1")
    shutil.copytree(run.path, tmp_path / "whole")
    for k, (name, kind) in enumerate(DAMAGES):
        file = run.path / name
        file.unlink()
        REPLACED[kind](file)
        before = listing(run.path)
        outcome = taskcluster_train(*command)  # the first time the other has still to run
        assert outcome.exit_code == 2
        assert "run_1: refused: " in outcome.err
        assert outcome.err.count("\n") == 1
        assert re.search(r"run_0 +│ finished", outcome.out)
        assert "The report is" in outcome.out
        gap = html.unescape((root / "report/index.html").read_text())
        assert f"{file} is" in gap or f"{run.path} " in gap
        if k % 2 == 0:
            outcome = taskcluster_train(*SMALL, "seed=1", f"hydra.run.dir={run.path}")
            assert outcome.exit_code == 2
            assert outcome.err.startswith(f"taskcluster-train: {run.path}")
            assert outcome.err.count("\n") == 1
        assert listing(run.path) == before
        shutil.rmtree(run.path)
        shutil.copytree(tmp_path / "whole", run.path)
    (run.path / "results.json").unlink()  # which is made again from the last checkpoint
    (run.path / "status.json").unlink()  # and this from what is there
    assert taskcluster_train(*command).exit_code == 0
    assert run.results() == RunFolder(tmp_path / "whole").results()
    assert run.state == "finished"
