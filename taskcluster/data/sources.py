"""A context in which transformers reads a pretrained model and its tokenizer, and refuses what it cannot read.

in:  a folder or a name on Hugging Face's hub, a revision, a GGUF file
out: what transformers reads; or one sentence that begins with the key at fault and gives transformers' own reason
"""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from functools import lru_cache
from io import StringIO
from pathlib import Path

from taskcluster.work import doing

HUB = "Hugging Face's hub"


@contextmanager
def reading(path: str, revision: str | None, key: str, advice: str) -> Iterator[None]:
    """A context in which transformers reads a model or a tokenizer, without its bars and reports.

    path: a folder or a name on the hub; revision: a branch, tag or commit on the hub; key: what the path is called in
    sentences; advice: what to do where a folder cannot be read. Raises ValueError, beginning with the key.
    """
    try:
        with quietly(), doing(f"{'loading' if Path(path).is_dir() else 'downloading'} {path}"):
            yield
    except Exception as error:  # transformers and its parsers raise many kinds
        first_line = str(error).strip().split("\n")[0]
        reason = " ".join(first_line.split()) or type(error).__name__
        if not Path(path).is_dir():
            reason = f"it is not a folder, and not to be had from {HUB}: {reason}"
            advice = "correct the name, with the home folder written out, or give another folder or model"
        at = f" at revision {revision!r}" if revision else ""
        raise ValueError(f"{key}={path!r}{at} cannot be loaded ({reason}); {advice}") from None


@lru_cache
def revisions_of(name: str) -> tuple[str, ...]:
    """Branches and tags of a model on the hub; those in the local cache where the hub cannot be asked."""
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
