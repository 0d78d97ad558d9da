"""What pages draw with: Vega as one script, and for the live page the chart specifications.

The live page has both from a process of its own (`python -m taskcluster.pages.vega`): vl-convert takes more than
a second in which no other thread runs, and Altair most of a second to import.
"""

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from platformdirs import user_cache_path

from taskcluster.metrics import PLACES, Metric
from taskcluster.runs.atomic_files import replace_file

VERSION = version("vl-convert-python")
SOURCE = "points"  # what specifications call the source that the page feeds
ANY = "METRIC"  # placeholder for a metric's key and axis, which the page fills in


class Vega:
    """Made while the server starts; whoever asks sooner waits."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "taskcluster.pages.vega"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)  # no Ctrl-C for it
        self._lines: list[bytes] = []
        self._lock = threading.Lock()

    def charts(self) -> bytes:
        """JSON: {"charts": {name: specification}, "themes": {"light", "dark"}, "places": {position: in words}}. Titles
        and metrics are the page's to set, as is what else depends on the data.
        """
        return self._line(0)

    def script(self) -> bytes:
        """Vega, Vega-Lite and vega-embed."""
        return bytes(json.loads(self._line(1)), "utf-8")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _line(self, number: int) -> bytes:
        assert self._process.stdout is not None
        with self._lock:
            while len(self._lines) <= number:
                line = self._process.stdout.readline()
                if not line:
                    raise RuntimeError("the charts could not be made; see the error above")
                self._lines.append(line)
        return self._lines[number]


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


def specifications() -> dict[str, Any]:
    import altair as alt

    from taskcluster.pages import charts, compared

    points, metric = alt.NamedData(SOURCE), Metric(ANY, "", axis=ANY, low=0, high=1)
    made = {
        "against_step": charts.against_step(points, metric, title=""),
        "layer_by_condition": charts.layer_by_condition(points, metric, title=""),
        "learning": charts.learning(points, [metric], title=""),
        "by_layer": charts.by_layer_at_the_end(points, [metric]),
        "beside": compared.by_layer(points, [(metric, [])], "baseline", rows={}),
        "map": charts.by_layer_and_step(points, [metric]),
        "path": charts.by_layer_and_position(points, [metric]),
        "tsne": charts.tsne(points, n_tasks=1, title=""),
    }
    return {
        "charts": {name: chart.to_dict() for name, chart in made.items()},
        "themes": {"light": charts.theme(), "dark": charts.theme(dark=True)},
        "places": PLACES,
    }


def main() -> None:
    """Write both, a line each."""
    print(json.dumps(specifications()), flush=True)
    print(json.dumps(library()), flush=True)


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # the server has ended meanwhile
        main()
    os._exit(0)  # which would say so again otherwise
