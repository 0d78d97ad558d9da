"""Where a pretrained model and its tokenizer are read from, and why they cannot be read, in plain words.

in:  a folder or a name on Hugging Face's hub, a revision, a GGUF file
out: a context in which transformers reads them, and which refuses in one sentence what it cannot read
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

HUB = "Hugging Face's hub"

REASONS = {  # by exceptions of huggingface_hub, the special before the general
    "HFValidationError": "it is not a folder",
    "GatedRepoError": "access to it has to be granted on its page; log in with `hf auth login` afterwards",
    "RepositoryNotFoundError": f"it is neither a folder nor a public model on {HUB}",
    "OfflineModeIsEnabled": f"it is not a folder, and {HUB} is switched off by HF_HUB_OFFLINE",
    "LocalEntryNotFoundError": f"it is not a folder, {HUB} cannot be reached, and the cache has no copy",
}


@contextmanager
def reading(
    path: str,
    revision: str | None,
    gguf_file: str | None,
    keys: tuple[str, str, str] = ("path", "revision", "gguf_file"),
    advice: str = "restore its files, or give another folder",
) -> Iterator[None]:
    """A context in which transformers reads a model or a tokenizer, without its bars and reports.

    path: a folder or a name on the hub; revision: a branch, tag or commit on the hub; gguf_file: a file in the folder
    that holds everything; keys: what the three are called in sentences; advice: what to do where a folder cannot be
    read. Raises ValueError, beginning with the key at fault.
    """
    if gguf_file:
        _refuse_absent(path, gguf_file, keys[2])
    try:
        with quietly():
            yield
    except Exception as error:  # transformers and its parsers raise many kinds
        kinds = {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}
        if "RevisionNotFoundError" in kinds:
            raise ValueError(f"{keys[1]}={revision!r} is not a branch, tag or commit of {path!r} on {HUB}") from None
        first_line = " ".join(str(error).strip().split("\n")[0].split()) or type(error).__name__
        reason = next((reason for kind, reason in REASONS.items() if kind in kinds), first_line)
        if not Path(path).is_dir():
            home = os.path.expanduser(path)
            advice = f"correct the name, or give a folder or another model on {HUB}"
            advice = f"write {home}" if Path(home).is_dir() else advice
        at = f" at {keys[1]} {revision!r}" if revision else ""
        raise ValueError(f"{keys[0]}={path!r}{at} cannot be loaded ({reason}); {advice}") from None


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


def _refuse_absent(path: str, gguf_file: str, key: str) -> None:
    """Raise ValueError where a package that reads GGUF files is not installed, and where the folder lacks the file."""
    if missing := [name for name in ("gguf", "accelerate") if find_spec(name) is None]:
        raise ValueError(f"{key}={gguf_file!r} needs the package {missing[0]}; install taskcluster-lm[pretrained]")
    folder = Path(path)
    if folder.is_dir() and not (folder / gguf_file).is_file():
        there = ", ".join(sorted(file.name for file in folder.glob("*.gguf"))) or "no GGUF file"
        raise ValueError(f"{key}={gguf_file!r} is not in {path}, which holds {there}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause:
        yield cause
        cause = cause.__cause__ or cause.__context__
