"""Vega as one script for pages that need no network, and the process that makes the charts of the live page."""

import os
import subprocess
import sys
import threading
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version

import orjson
from platformdirs import user_cache_path

from taskcluster.metrics import Catalogue
from taskcluster.runs.files import replace_file

VERSION = version("vl-convert-python")


class ChartMaker:
    """Runs `python -m taskcluster.pages.live_charts`: importing Altair takes most of a second, in which the server
    could not answer.
    """

    def __init__(self) -> None:
        command = [sys.executable, "-m", "taskcluster.pages.live_charts"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True)  # no Ctrl-C for it
        self._lock = threading.Lock()
        self._made: dict[bytes, bytes] = {}

    def make(self, known: Catalogue) -> bytes:
        """The charts of these metrics as JSON; see live_charts.py."""
        metrics = orjson.dumps([*known.values()])
        with self._lock:
            if metrics not in self._made:
                assert self._process.stdin and self._process.stdout
                self._process.stdin.write(metrics + b"\n")
                self._process.stdin.flush()
                if not (line := self._process.stdout.readline()):
                    raise RuntimeError("the charts could not be made; see the error above")
                self._made[metrics] = line
            return self._made[metrics]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@lru_cache
def library() -> str:
    """Vega, Vega-Lite and vega-embed. Bundling takes more than a second, so the bundle is kept in the user's cache
    folder, if that can be written to.
    """
    kept = user_cache_path("taskcluster") / f"vega-{VERSION}.js"
    with suppress(OSError):
        return kept.read_text(encoding="utf-8")
    import vl_convert

    script: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        replace_file(kept, script.encode(), writer=f"-{os.getpid()}")
    return script
