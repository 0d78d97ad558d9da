"""The second process of a run that has two, forked before the first has threads: it has imported everything."""

import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NoReturn

import torch

from taskcluster.processes import group
from taskcluster.training import worker


class Companion(subprocess.Popen[bytes]):
    """A child of this process that waits to be told its command, and ends with this process if it never is."""

    def __init__(self) -> None:
        orders, self._orders = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._orders)
            _obey(orders)
        os.close(orders)
        self.args, self.returncode, self.stdin, self.stdout, self.stderr = "companion", None, None, None, None
        self._waitpid_lock, self._child_created = threading.Lock(), True  # what poll, wait and kill need

    def become(self, command: Sequence[str], stdin: int, env: Mapping[str, str]) -> "Companion":
        """In place of subprocess.Popen, for `python -m taskcluster.training.worker ARGUMENTS`."""
        assert (command[1:3], stdin) == (["-m", worker.__name__], subprocess.DEVNULL)
        os.write(self._orders, json.dumps([command[3:], dict(env)]).encode() + b"\n")
        os.close(self._orders)
        return self


def prepare() -> None:
    """Let the run that begins in this process have a companion instead of starting a process."""
    group.subprocess = SimpleNamespace(Popen=Companion().become, DEVNULL=subprocess.DEVNULL)  # type: ignore[attr-defined]


def _obey(orders: int) -> NoReturn:
    code = 0
    with open(orders) as lines:
        line = lines.readline()
    if line:
        arguments, environment = json.loads(line)
        code = _work(arguments, environment)
    os._exit(code)


def _work(arguments: list[str], environment: dict[str, str]) -> int:
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = [worker.__name__, *arguments]
    code: Any = 1
    try:
        worker.main()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code)
