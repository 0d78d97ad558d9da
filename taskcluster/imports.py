"""How code is imported: where a user's own is found, and torch and its like in less time."""

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def find_own() -> None:
    """Let `_target_` name code in the folders given by --config-dir and hydra.searchpath, and beside these folders.

    Called in every process that Hydra has told its configuration; those that such a process starts get its sys.path.
    """
    from hydra.core.hydra_config import HydraConfig  # only now, as reports do without Hydra

    for source in HydraConfig.get().runtime.config_sources:
        if source.schema == "file" and source.provider != "main":
            add(source.path)


def add(folder: str | os.PathLike[str]) -> None:
    """Let `_target_` name code in a folder, and beside it."""
    whole = os.path.abspath(folder)
    sys.path += [place for place in (whole, os.path.dirname(whole)) if place not in sys.path]


@contextmanager
def large() -> Iterator[None]:
    """Import what makes hundreds of thousands of objects, which live until the process ends.

    Python's collector of cycles looks through them again and again while they come, and twice when the process ends: a
    second each time. Here it waits, and leaves out what is imported from then on.
    """
    before, collecting = len(sys.modules), gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
            atexit.register(gc.freeze)
        if collecting:
            gc.enable()
