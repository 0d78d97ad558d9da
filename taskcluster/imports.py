"""Where a user's own code is imported from."""

import os
import sys

from hydra.core.hydra_config import HydraConfig


def find_own() -> None:
    """Let `_target_` name code in the folders given by --config-dir and hydra.searchpath, and beside these folders.

    Called in every process that Hydra has told its configuration; those that such a process starts get its sys.path.
    """
    for source in HydraConfig.get().runtime.config_sources:
        if source.schema == "file" and source.provider != "main":
            add(source.path)


def add(folder: str | os.PathLike[str]) -> None:
    """Let `_target_` name code in a folder, and beside it."""
    whole = os.path.abspath(folder)
    sys.path += [place for place in (whole, os.path.dirname(whole)) if place not in sys.path]
