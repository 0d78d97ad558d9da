"""Real runs in separate processes, to be killed, starved and corrupted, and comparisons of their files to the bit.

A server that has imported everything forks each process, so a run starts in a second and is killed in its own time, not
while it imports.
"""

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL
from PIL import Image
from torch.utils._pytree import tree_flatten

from taskcluster.runs.checkpoints import load
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import TIMES, read
from taskcluster.runs.resume import DRAWN

RUN = (*SMALL, "trainer.max_steps=30", "callbacks.measurement.every_n_steps=10", "model.dropout=0.1")
LONG = 120  # seconds that no process here needs


@lru_cache
def server() -> Any:
    """The context of processes that are forked from a server which has imported `warm`, found beside this file."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["warm"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]))
        forkserver.ensure_running()
    return context


class Command:
    """`taskcluster-train ARGUMENTS` in a folder, begun.

    variables: of its environment, beside those of this process; figures: whether it draws them, which doubles its
    seconds; output: what it prints to, a log of its own by default.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        variables: Mapping[str, str] | None = None,
        figures: bool = False,
        output: Path | None = None,
    ) -> None:
        self.log = output or folder / f"log-{time.monotonic_ns()}"
        self._process = server().Process(target=_train, args=(folder, self.log, arguments, variables or {}, figures))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def send(self, number: int) -> None:
        if self._process.is_alive():
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self._process.join(LONG)

    def end(self) -> tuple[int, str]:
        """The exit code, and what was printed, once it has ended by itself."""
        self._process.join(LONG)
        if self._process.is_alive():
            self.kill()
            raise AssertionError(f"still running after {LONG} s, printing to {self.log}")
        assert self._process.exitcode is not None
        return self._process.exitcode, self.log.read_text() if self.log.is_file() else ""

    def until(self, condition: Callable[[], bool]) -> "Command":
        """Wait while it runs."""
        while not condition():
            assert self._process.is_alive(), self.end()
            time.sleep(0.005)
        return self


def _train(folder: Path, log: Path, arguments: tuple[str, ...], variables: Mapping[str, str], figures: bool) -> None:
    from taskcluster import train
    from taskcluster.training import figures as drawing

    os.environ.update(variables)
    if not figures:
        for name, instead in UNDRAWN.items():
            setattr(drawing, name, instead)
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = ["taskcluster-train", *arguments]
    train.main()


def _dots(run: RunFolder) -> None:
    for name in DRAWN:
        (run.figures / name).write_text("{}")
    Image.new("RGB", (1, 1)).save(run.figures / "tsne.png")


# In place of functions of `taskcluster.training.figures`, whose seconds are half of a small run's.
UNDRAWN: dict[str, Callable[[Any], None]] = {"write_tsne": lambda *_: None, "draw": _dots}


def train(folder: Path, *arguments: str, variables: Mapping[str, str] | None = None, figures: bool = False) -> str:
    """What a command that must succeed printed."""
    code, output = Command(folder, *arguments, variables=variables, figures=figures).end()
    assert code == 0, output
    return output


def timeless(run: RunFolder) -> list[dict[str, Any]]:
    """The journal without what differs between any two runs."""
    return [{key: value for key, value in row.items() if key not in TIMES} for row in run.rows()]


def training(run: RunFolder) -> list[dict[str, Any]]:
    """Losses of batches and learning rates, likewise."""
    return [{key: value for key, value in row.items() if key not in TIMES} for row in read(run.training)]


def assert_identical(one: RunFolder, other: RunFolder) -> None:
    """Journal, verdict and every checkpoint (weights, optimizer, schedule, counters) agree to the bit."""
    assert timeless(one) == timeless(other)
    assert training(one) == training(other)
    assert one.results()["claims"] == other.results()["claims"]
    assert one.differing_keys(other.config()) == []
    assert [file.name for _, file in one.saved()] == [file.name for _, file in other.saved()]
    for (_, file), (_, counterpart) in zip(one.saved(), other.saved(), strict=True):
        assert_equal(*(load(path) | {"config": None} for path in (file, counterpart)), at=file.name)
    for run in (one, other):
        assert run.state == "finished"
        assert not list(run.path.rglob(".*.partial"))
        assert all(json.loads(line) for line in run.journal.read_text().splitlines())


def assert_equal(one: Any, other: Any, at: str) -> None:
    (leaves, structure), (counterparts, same) = tree_flatten(one), tree_flatten(other)
    assert structure == same, at
    for leaf, counterpart in zip(leaves, counterparts, strict=True):
        assert type(leaf) is type(counterpart), at
        assert torch.equal(leaf, counterpart) if isinstance(leaf, torch.Tensor) else leaf == counterpart, at


def fill(disk: Path) -> Path:
    """Leave not a byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with suppress(OSError):
                while file.write(b"\0" * size):
                    pass
    return filler


def wandb_steps(file: Path) -> list[int]:
    """Steps of the rows with a validation loss in an offline W&B run.

    The file is a LevelDB log: after 7 bytes of its own, blocks of 32 KiB that hold fragments of records, each with a
    header of checksum (4 bytes), length (2) and kind (1: whole, 2: first, 3: middle, 4: last).
    """
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, fragments, steps = file.read_bytes(), 7, b"", []
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:  # too little room for a header: the block is filled with zeros
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        fragments += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(fragments)
            fragments = b""
            items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
            if "val/loss" in items:
                steps.append(int(items["step"]))
    return steps
