"""Name run folders and W&B groups after the settings of the command and the seeds. Free of torch.

in:  a run's resolved configuration, and the overrides of its command
out: CONDITION/seed=SEED
"""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from glob import escape
from pathlib import Path

from taskcluster.runs import records
from taskcluster.runs.condition import (
    SUITE,
    Config,
    content,
    decisive,
    digest,
    is_seed,
    matters,
    named_seeds,
    without_seed,
)
from taskcluster.validation import UserError

LONGEST = 60  # characters of a condition, before the digest

SCHEDULE = re.compile(r"callbacks\b.*|.*\.every_n_steps")  # keys that say when runs measure

LIST = re.compile(r"=\[([\w.+-]+(?:,[\w.+-]+)+)\]")  # a list of plain values, shown without its brackets


def run_folder(config: Config, overrides: Sequence[str], parent: Path) -> str:
    """`CONDITION/seed=SEED` below `parent`, or `seed=SEED` where the command sets seeds alone.

    A run that is already there under another name keeps it: names by earlier versions, or by a command that gives the
    same configuration in other words.
    """
    seeds = _bounded(",".join(f"{key}={value}" for key, value in named_seeds(config).items()), True, config)
    name = f"{condition(config, overrides)}/{seeds}".lstrip("/")
    if (parent / name / "config.yaml").exists():
        return name
    wanted = digest(content(config))
    for file in [parent / seeds / "config.yaml", *sorted(parent.glob(f"*/{escape(seeds)}/config.yaml"))]:
        if file.is_file() and _recorded(file, file.stat().st_mtime_ns) == wanted:
            return os.path.relpath(file.parent, parent)
    return name


@lru_cache(maxsize=100_000)
def _recorded(file: Path, modified: int) -> str:
    """The digest of a recorded configuration, "" for one that is damaged."""
    with suppress(UserError):
        return digest(content(records.read(file, records.Config)))
    return ""


def condition(config: Config, overrides: Sequence[str]) -> str:
    """Return the settings of the command, task and model first: `task=facts,model.n_layer=2`; "" if it sets only seeds.

    Two conditions never have one name: where it is cut, or shows less than what was set, it ends in `~` and a digest.
    """
    pairs = [override.lstrip("+").partition("=")[::2] for override in overrides]
    pairs = [(key[1:], "~") if key.startswith("~") else (key, value) for key, value in pairs]
    pairs = [(key, without_seed(value) if key in SUITE else value) for key, value in pairs]
    hidden = [key for key, _ in pairs if SCHEDULE.fullmatch(key) and matters(f"{key}.")]
    words = {key: value for key, value in pairs if key not in hidden and not _is_elsewhere(config, key, value)}
    ordered = sorted(words, key=lambda key: (key != "task", key != "model"))
    whole = LIST.sub(r"=\1", ",".join(f"{key}={words[key]}" for key in ordered))
    shown = re.sub(r"(?<==)[^,]*/", "", whole)  # keeps the last part of a path
    shown = re.sub(r"[^\w.,=~+-]+", "_", re.sub("['\"]", "", shown), flags=re.ASCII)
    return _bounded(shown, not hidden and shown == whole, decisive(config))


def _is_elsewhere(config: Config, key: str, value: str) -> bool:
    """Whether an override changes no number, or appears elsewhere in the name: a seed, the experiment, an exported run
    (named by model.path)."""
    is_name = key == "experiment" and value == config.get("name")
    return is_name or key == "exported" or is_seed(key) or not matters(f"{key}.")


def group(config: Config, folder: Path) -> str:
    """Of W&B: the condition, or the experiment where the condition has no name; with a digest for a folder that was
    chosen by hand."""
    if folder.name.startswith("seed="):
        return folder.parent.name[:128]  # what W&B takes
    return f"{config.get('name')}~{digest(decisive(config))[:8]}"


def _bounded(name: str, exact: bool, values: Config) -> str:
    """A name, cut after a comma where it is too long, with a digest of the values unless it is exact."""
    if exact and len(name) <= LONGEST:
        return name
    if len(name) > LONGEST:
        name = name[:LONGEST].rpartition(",")[0] or name[:LONGEST]
    return f"{name or 'default'}~{digest(values)[:8]}"
