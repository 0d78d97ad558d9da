"""Let transformers read a pretrained model or tokenizer, show download progress, and report errors in one sentence.

in:  a folder or a name on Hugging Face's hub, a revision, a GGUF file
out: what transformers reads, and meanwhile how far a download is; or one sentence that begins with the key at fault and
     gives transformers' own reason
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

from tqdm import tqdm

from taskcluster.work import Part, doing

HUB = "Hugging Face's hub"
MB = 1_000_000


@contextmanager
def reading(path: str, revision: str | None, key: str, advice: str) -> Iterator[dict[str, Any]]:
    """A context in which transformers reads a model or a tokenizer, without its bars and reports.

    path: a folder or a name on the hub; revision: a branch, tag or commit on the hub; key: what the path is called in
    sentences; advice: what to do where a folder cannot be read. Gives what a model's `from_pretrained` needs for a
    download to say how far it is. Raises ValueError, beginning with the key.
    """
    here = Path(path).is_dir()
    try:
        with quietly(), doing(f"{'loading' if here else 'downloading'} {path}") as part:
            yield {} if here else _bars(part)
    except Exception as error:  # transformers and its parsers raise many kinds
        first_line = str(error).strip().split("\n")[0]
        reason = " ".join(first_line.split()) or type(error).__name__
        if not here:
            reason = f"it is not a folder, and it cannot be downloaded from {HUB}: {reason}"
            advice = "correct the name, with the home folder written out, or choose another folder or model"
        at = f" at revision {revision!r}" if revision else ""
        raise ValueError(f"{key}={path!r}{at} cannot be loaded ({reason}); {advice}") from None


def _bars(part: Part) -> dict[str, Any]:
    """The argument that makes huggingface_hub count the bytes of a download in `part`; none in transformers that do not
    take it."""
    from transformers.utils import hub

    class Bar(tqdm):  # type: ignore[misc]
        """Not drawn: what is being done is shown elsewhere."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options | {"disable": True})
            self.counted = options.get("unit") == "B"

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if self.counted and (total := round((self.total or 0) / MB)) > 1:
                if not part.total:
                    part.what, part.began = f"{part.what}, MB", time.monotonic()
                part.total, part.done = max(part.total, total), max(part.done, int(self.n / MB))

        def close(self) -> None:
            part.what, part.total, part.done = part.what.removesuffix(", MB"), 0, 0

    return (
        {"tqdm_class": Bar}
        if "tqdm_class" in getattr(getattr(hub, "DownloadKwargs", None), "__annotations__", {})
        else {}
    )


@lru_cache
def revisions_of(name: str) -> tuple[str, ...]:
    """Branches and tags of a model on the hub; those in the local cache if the hub cannot be reached."""
    from huggingface_hub import list_repo_refs, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    with suppress(Exception):  # offline, or not allowed to: many kinds
        refs = list_repo_refs(name)
        return tuple(ref.name for ref in (*refs.branches, *refs.tags))
    with suppress(CacheNotFound):
        return tuple(sorted(ref for repo in scan_cache_dir().repos if repo.repo_id == name for ref in repo.refs))
    return ()


@contextmanager
def quietly() -> Iterator[None]:
    """A context without the bars and reports of transformers: what they warn of is refused."""
    from transformers.utils import logging as reports

    bars, verbosity = reports.is_progress_bar_enabled(), reports.get_verbosity()
    reports.disable_progress_bar()
    reports.set_verbosity_error()
    try:
        with redirect_stderr(StringIO()):  # where GGUF files have a bar of their own
            yield
    finally:
        reports.set_verbosity(verbosity)
        if bars:
            reports.enable_progress_bar()
