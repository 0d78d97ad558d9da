"""Vega as one script, for pages that need no network."""

import os
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version

from platformdirs import user_cache_path

from taskcluster.runs.atomic_files import replace_file

VERSION = version("vl-convert-python")


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
