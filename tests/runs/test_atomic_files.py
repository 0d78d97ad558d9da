"""Files and folders that are replaced whole or not at all, also on disks that are full or read-only."""

import errno
import os
from pathlib import Path

import polars
import pytest
from faults import fill
from safetensors import SafetensorError

from taskcluster.runs.atomic_files import filling, refuse_taken, replace_file
from taskcluster.validation import UserError

WHOLE = {"a": "whole", "b": "whole"}


def put(folder: Path) -> None:
    with filling(folder) as temporary:
        for name in WHOLE:
            (temporary / name).write_text("whole")


def content(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "file"
    replace_file(file, b"old")
    (tmp_path / ".file.partial").mkdir()  # which makes writing fail
    with pytest.raises(OSError, match="directory"):
        replace_file(file, b"new")
    assert file.read_bytes() == b"old"


@pytest.mark.parametrize("name", ["new", "empty", "parent/größe x"])
def test_a_folder_is_filled_and_a_failure_leaves_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    folder = tmp_path / name
    with pytest.raises(RuntimeError, match="lost"), filling(folder) as temporary:
        (temporary / "a").write_text("half")
        raise RuntimeError("lost")
    assert not folder.is_dir() or not list(folder.iterdir())
    refuse_taken(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine").write_text("mine")
    put(folder)
    assert content(folder) == WHOLE | {"mine": "mine"}
    assert not list(folder.parent.glob(".*"))
    with pytest.raises(UserError, match="is not empty"):
        refuse_taken(folder)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "No space left on device; make room and rerun the command, or choose a place on another disk"),
        (errno.EROFS, "Read-only file system; make it a folder that can be written to, or choose another place"),
    ],
)
@pytest.mark.parametrize("library", ["Python", "Rust"])
def test_an_error_of_the_disk_is_one_sentence(tmp_path: Path, number: int, advice: str, library: str) -> None:
    in_rust = SafetensorError(f"Error while serializing: {os.strerror(number)} (os error {number})")
    error = OSError(number, os.strerror(number)) if library == "Python" else in_rust
    with pytest.raises(UserError) as refused, filling(tmp_path / "model"):
        raise error
    assert str(refused.value) == f"{tmp_path / 'model'}: {advice}"
    assert not list(tmp_path.iterdir())


def test_another_error_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), filling(tmp_path / "model"):
        Path("/nowhere/file").read_text()


def test_a_full_disk_keeps_what_was_there(small_disk: Path) -> None:
    folder = small_disk / "report"
    put(folder)
    filler = fill(small_disk)
    table = polars.DataFrame({"a": range(100_000)})
    for write in (table.write_csv, table.write_parquet):
        with pytest.raises(UserError, match="report: No space left on device; make room"), filling(folder) as temporary:
            write(temporary / "a")
    assert content(folder) == WHOLE
    filler.unlink()
    put(folder)
