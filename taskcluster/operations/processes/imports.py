"""How code is imported: a user's from the folders of the configuration, and torch and its like in less time."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def add_config_folders() -> None:
    """Let `_target_` name code in the folders given by --config-dir and hydra.searchpath, and beside these folders.

    Called in every process that Hydra has given its configuration; those that it starts get its sys.path.
    """
    from hydra.core.hydra_config import HydraConfig  # only now, as reports do without Hydra

    for source in HydraConfig.get().runtime.config_sources:
        if source.schema == "file" and source.provider != "main":
            add(source.path)


def add(folder: str | os.PathLike[str]) -> None:
    """Let `_target_` name code in a folder, and beside it."""
    path = os.path.abspath(folder)
    sys.path += [entry for entry in (path, os.path.dirname(path)) if entry not in sys.path]


@contextmanager
def large() -> Iterator[None]:
    """Import modules of hundreds of thousands of objects, without looking for cycles among them, now or later: this
    saves a second of every command."""
    before = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
        gc.enable()
