"""What the live page draws with: Vega as one script, and the chart specifications.

Both are made in a process of their own (`python -m taskcluster.vega`): vl-convert takes a second and a half in which no
other thread runs, and Altair most of a second to import.
"""

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import Any

SOURCE = "points"  # what specifications call the source that the page feeds


class Vega:
    """Made while the server starts; whoever asks sooner waits."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "taskcluster.vega"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)  # no Ctrl-C for it
        self._lines: list[bytes] = []
        self._lock = threading.Lock()

    def charts(self) -> bytes:
        """JSON: {"charts": {name: specification}, "themes": {"light", "dark"}, "metrics": {metric: in words}}. Titles
        are the page's to set, as is what else depends on the data.
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
                    raise RuntimeError("the charts could not be made; what went wrong stands above")
                self._lines.append(line)
        return self._lines[number]


def specifications() -> dict[str, Any]:
    import altair as alt

    from taskcluster import plots

    points = alt.NamedData(SOURCE)
    made: dict[str, Any] = {
        "ari_against_step": plots.ari_against_step,
        "layer_by_condition": plots.layer_by_condition,
        "learning": plots.learning,
        "ari_by_layer": plots.ari_by_layer,
        "tsne": partial(plots.tsne, n_tasks=1),
    }
    return {
        "charts": {name: chart(points, title="").to_dict() for name, chart in made.items()},
        "themes": {"light": plots.theme(), "dark": plots.theme(dark=True)},
        "metrics": plots.METRICS,
    }


def main() -> None:
    """Write both, a line each."""
    print(json.dumps(specifications()), flush=True)
    import vl_convert

    print(json.dumps(vl_convert.javascript_bundle()), flush=True)  # type: ignore[call-arg]


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # the server has ended meanwhile
        main()
    os._exit(0)  # which would say so again otherwise
