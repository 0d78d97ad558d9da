"""Folders that are written beside and moved into place, on disks that are full, read-only or in the way."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars
import pytest
from faults import fill
from safetensors import SafetensorError

from taskcluster.runs.files import filling, refuse_taken
from taskcluster.validation import UserError

KILLED = """
import os, signal, sys
from pathlib import Path
from taskcluster.runs import files
replace = os.replace
def kill_at_the_second(*paths):
    if moved: os.kill(os.getpid(), signal.SIGKILL)
    moved.append(replace(*paths))
moved = []
if sys.argv[2] == "while moving":
    os.replace = kill_at_the_second
with files.filling(Path(sys.argv[1])) as partial:
    (partial / "a").write_text("half")
    (partial / "b").write_text("half")
    if sys.argv[2] == "while writing": os.kill(os.getpid(), signal.SIGKILL)
"""


def put(folder: Path) -> None:
    with filling(folder) as partial:
        for name in ("a", "b"):
            (partial / name).write_text("whole")


def content(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


WHOLE = {"a": "whole", "b": "whole"}


@pytest.mark.parametrize("before", ["missing", "with its parents", "empty", "a link to an empty folder", "here"])
def test_a_folder_is_filled_wherever_it_is(tmp_path: Path, before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "größe x" / "y" if before == "with its parents" else tmp_path / "größe x"
    if before in ("empty", "here"):
        folder.mkdir()
    if before == "a link to an empty folder":
        (tmp_path / "real").mkdir()
        folder.symlink_to("real")
    if before == "here":
        monkeypatch.chdir(folder)
        put(Path())
    else:
        put(folder)
    assert content(folder) == WHOLE
    assert not list(folder.parent.glob(".*"))
    assert folder.is_symlink() == (before == "a link to an empty folder")


def test_nothing_of_a_failure_stays_and_other_files_do(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/mine").write_text("mine")
    for name in ("there", "new"):
        with pytest.raises(RuntimeError, match="lost"), filling(tmp_path / name) as partial:
            (partial / "a").write_text("half")
            raise RuntimeError("lost")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    put(tmp_path / "there")
    assert content(tmp_path / "there") == WHOLE | {"mine": "mine"}


@pytest.mark.parametrize("moment", ["while writing", "while moving"])
@pytest.mark.parametrize("before", ["missing", "empty"])
def test_what_a_kill_leaves_blocks_no_further_attempt(tmp_path: Path, before: str, moment: str) -> None:
    folder = tmp_path / "model"
    if before == "empty":
        folder.mkdir()
    ended = subprocess.run([sys.executable, "-c", KILLED, folder, moment], check=False)
    if (before, moment) != ("missing", "while moving"):  # which is one move
        assert ended.returncode == -signal.SIGKILL
        refuse_taken(folder)
    put(folder)
    assert content(folder) == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with pytest.raises(UserError, match="holds something already"):
        refuse_taken(folder)


def rust(number: int) -> list[Exception]:
    """How libraries report an error of the system."""
    said = f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})"
    return [OSError(number, os.strerror(number)), OSError(said), SafetensorError(said), Exception(said)]


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "No space left on device; make room and rerun the command, or choose a place on another disk"),
        (errno.EDQUOT, "Disk quota exceeded; make room and rerun the command, or choose a place on another disk"),
        (errno.EROFS, "Read-only file system; make it a folder that can be written to, or choose another place"),
        (errno.EACCES, "Permission denied; make it a folder that can be written to, or choose another place"),
    ],
)
def test_an_error_of_the_disk_is_one_sentence_with_advice_that_helps(
    tmp_path: Path, number: int, advice: str, kind: int
) -> None:
    with pytest.raises(UserError) as refused, filling(tmp_path / "model"):
        raise rust(number)[kind]
    assert str(refused.value) == f"{tmp_path / 'model'}: {advice}"
    assert not list(tmp_path.iterdir())


def test_another_error_of_a_library_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(SafetensorError, match="shape"), filling(tmp_path / "model"):
        raise SafetensorError("shape")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.write_text(""), "it is not a folder; move it away"),
        (lambda path: path.symlink_to("nowhere"), "it is not a folder; move it away"),
        (lambda path: path.symlink_to(path.name), "it is not a folder; move it away"),
        (lambda path: os.mkfifo(path), "it is not a folder; move it away"),
    ],
)
def test_what_is_in_the_way_is_refused_before_any_work(
    tmp_path: Path, make: Callable[[Path], None], sentence: str
) -> None:
    make(tmp_path / "model")
    with pytest.raises(UserError, match=f"model: {sentence}"), filling(tmp_path / "model"):
        pytest.fail("works")
    with pytest.raises(UserError, match=r"model/x: .*; move it away"), filling(tmp_path / "model/x"):
        pytest.fail("works")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_under_a_table_is_one_sentence_and_costs_nothing(small_disk: Path) -> None:
    folder = small_disk / "report"
    put(folder)
    filler = fill(small_disk)
    large = polars.DataFrame({"a": range(100_000)})
    for write in (large.write_csv, large.write_parquet):
        with pytest.raises(UserError, match="report: No space left on device; make room"), filling(folder) as partial:
            write(partial / "a")
    assert content(folder) == WHOLE
    filler.unlink()
    put(folder)
