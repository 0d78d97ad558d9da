"""Prepare the process of a command, and make a user's code importable."""

import gc
import os
import pwd
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from taskcluster.operations.processes import streams


def prepare() -> None:
    """Guard the standard streams, and set a user name and a home folder if the system lacks them. Every command calls
    this first.

    In a container that runs under any user id, the system knows neither, and libraries need both when they are
    imported.
    """
    streams.guard()
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("HOME", "/")  # which only this user can write to
        os.environ.setdefault("USER", str(os.getuid()))


@contextmanager
def large_imports() -> Iterator[None]:
    """Import modules of hundreds of thousands of objects, without a search for cycles among them, now or later: this
    saves two seconds of every command."""
    before = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
        gc.enable()


def add_config_folders() -> None:
    """Let `_target_` name code in the folders given by --config-dir and hydra.searchpath, and beside these folders.

    Called in every process that Hydra has given its configuration; those that it starts get its sys.path.
    """
    from hydra.core.hydra_config import HydraConfig  # imported here, since reports do not need Hydra

    for source in HydraConfig.get().runtime.config_sources:
        if source.schema == "file" and source.provider != "main":
            add_folder(source.path)


def add_folder(folder: str | os.PathLike[str]) -> None:
    """Let `_target_` name code in a folder, and beside it."""
    path = os.path.abspath(folder)
    sys.path += [entry for entry in (path, os.path.dirname(path)) if entry not in sys.path]
