"""Where a pretrained model and its tokenizer are read from, and why they cannot be read, in plain words.

in:  a folder or a name on Hugging Face's hub, a revision, a GGUF file
out: a context in which transformers reads them, and which refuses in one sentence what it cannot read
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import NamedTuple

HUB = "Hugging Face's hub"

REASONS = {  # by exceptions of huggingface_hub, the special before the general
    "GatedRepoError": "access to it has to be granted on its page; log in with `hf auth login` afterwards",
    "RepositoryNotFoundError": f"it is neither a folder nor a public model on {HUB}",
    "OfflineModeIsEnabled": f"it is not a folder, and {HUB} is switched off by HF_HUB_OFFLINE",
    "LocalEntryNotFoundError": f"it is not a folder, {HUB} cannot be reached, and the cache has no copy",
}


class Unusable(ValueError):
    """Files that cannot be used: the reason, a semicolon, and what to do."""


class Source(NamedTuple):
    """A folder or a name on the hub; a branch, tag or commit on the hub; a file in the folder that holds everything.

    keys: what the three are called in sentences.
    """

    path: str
    revision: str | None = None
    gguf_file: str | None = None
    keys: tuple[str, str, str] = ("path", "revision", "gguf_file")

    @contextmanager
    def reading(self, advice: str = "") -> Iterator[None]:
        """A context in which transformers reads the source, without its bars and reports.

        advice: what to do where a folder cannot be read. Raises ValueError, beginning with the key at fault.
        """
        self._refuse_absent()
        try:
            with quietly():
                yield
        except Exception as error:  # transformers and its parsers raise many kinds
            raise ValueError(self._refusal(error, advice)) from None

    def refusal(self, reason: str, advice: str) -> str:
        at = f" at {self.keys[1]} {self.revision!r}" if self.revision else ""
        return f"{self.keys[0]}={self.path!r}{at} cannot be loaded ({reason}); {advice}"

    def _refuse_absent(self) -> None:
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

        if self.gguf_file:
            refuse_gguf_without_its_packages(self.gguf_file, self.keys[2])
        folder = Path(self.path)
        if self.path and folder.is_dir():
            if self.gguf_file and not (folder / self.gguf_file).is_file():
                there = ", ".join(sorted(file.name for file in folder.glob("*.gguf"))) or "no GGUF file"
                raise ValueError(f"{self.keys[2]}={self.gguf_file!r} is not in {self.path}, which holds {there}")
            return
        try:
            validate_repo_id(self.path)
        except HFValidationError:
            reason = "it is a file" if folder.is_file() else "it is not a folder"
            expanded = os.path.expanduser(self.path)
            advice = f"write {expanded}" if Path(expanded).is_dir() else "give the folder that holds it"
            raise ValueError(self.refusal(reason, advice)) from None

    def _refusal(self, error: Exception, advice: str) -> str:
        kinds = [kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__]
        if "RevisionNotFoundError" in kinds:
            return f"{self.keys[1]}={self.revision!r} is not a branch, tag or commit of {self.path!r} on {HUB}"
        if isinstance(error, Unusable):
            reason, _, advice = str(error).partition("; ")
            return self.refusal(reason, advice)
        reason = next((reason for kind, reason in REASONS.items() if kind in kinds), _first_line(error))
        if not Path(self.path).is_dir():
            advice = f"correct the name, or give a folder or another model on {HUB}"
        return self.refusal(reason, advice or "restore its files, or give another folder")


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _first_line(error: Exception) -> str:
    return " ".join(str(error).strip().split("\n")[0].split()) or type(error).__name__


@contextmanager
def quietly() -> Iterator[None]:
    """A context without the bars and reports of transformers: what they warn of is refused."""
    from transformers.utils import logging as reports

    bars, loggers = reports.is_progress_bar_enabled(), [*map(logging.getLogger, ("transformers", "huggingface_hub"))]
    levels = [logger.level for logger in loggers]
    reports.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(StringIO()):  # where GGUF files have a bar of their own
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            reports.enable_progress_bar()


def refuse_gguf_without_its_packages(gguf_file: str, key: str) -> None:
    """Raise ValueError where a package that reads GGUF files is not installed."""
    if missing := [name for name in ("gguf", "accelerate") if find_spec(name) is None]:
        raise ValueError(
            f"{key}={gguf_file!r} needs the package {missing[0]}; install taskcluster-lm[pretrained], or "
            "pip install gguf accelerate"
        )
