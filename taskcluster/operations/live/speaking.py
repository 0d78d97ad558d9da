"""Report the progress of long work: bars on a terminal, elsewhere a line after one second and then every ten seconds.

in:  a console; the current work, from `taskcluster.work`
out: "layer 7 of 30, about 4 min"
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live as Display
from rich.progress_bar import ProgressBar
from rich.table import Table

from taskcluster.work import duration, sentence, stages

SHOWN = "TASKCLUSTER_SHOWN"  # set in the environment if a view shows what a run measures
FIRST, PERIOD = 1.0, 10.0  # seconds before the first line, and between lines
WIDTH = 24  # width of a bar


@contextmanager
def speaking(console: Console, name: str = "") -> Iterator[None]:
    """A context in which the console reports progress. name: begins every line."""
    if console.quiet or SHOWN in os.environ:
        yield
    elif console.is_terminal:
        with Display(get_renderable=_bars, console=console, transient=True):
            yield
    else:
        over = threading.Event()
        speaker = threading.Thread(target=_speak, args=(console, name, over), daemon=True)
        speaker.start()
        try:
            yield
        finally:
            over.set()
            speaker.join()


def _speak(console: Console, name: str, over: threading.Event) -> None:
    wait = FIRST
    while not over.wait(wait):
        if said := sentence():
            console.print(f"{name}  {said}".strip(), soft_wrap=True)
        wait = PERIOD


def _bars() -> Table:
    """Return a line for each stage of the work, with a bar if items are counted."""
    table = Table.grid(padding=(0, 1))
    for text, share, left in stages():
        bar = "" if share is None else ProgressBar(1.0, share, width=WIDTH)
        table.add_row(bar, text, f"about {duration(left)}" if left else "")
    return table
