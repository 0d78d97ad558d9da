"""The checkpoints of a model that others trained, as the steps of one run. Free of torch.

in:  a run's configuration, whose model.path is a folder of checkpoints, or the name of a model with model.revisions
out: for every step the same configuration with that checkpoint as its model, which is built like any other
"""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from taskcluster.config import RunConfig
from taskcluster.runs.journal import Row
from taskcluster.validation import UserError

Series = Mapping[int, RunConfig]

EXAMPLE = "step1000 or checkpoint-500"


class _Named(NamedTuple):
    """A checkpoint by the name that its step is read from."""

    name: str
    path: str
    revision: str | None


def series(config: RunConfig) -> Series:
    """{step: the configuration with the checkpoint of that step}, by number: step9 before step10. {} for a model with
    one set of weights.

    A folder is one of checkpoints if it has no config.json, but folders with one and a number in their name have. Only
    models with the key `revisions` have checkpoints. Raises UserError for what cannot be sorted, and for a run that
    would train them.
    """
    given = config.model.arguments
    path, revisions = given.get("path"), given.get("revisions")
    if "revisions" not in given or not path:
        return {}
    if revisions:
        found = _of_hub(str(path), given.get("revision"), revisions)
    elif Path(str(path)).is_dir() and not given.get("gguf_file") and not (Path(str(path)) / "config.json").exists():
        found = _of_folder(Path(str(path)))
    else:
        return {}
    by_step = sorted((_step(named.name), named) for named in found)
    if twice := [(a, b) for (step, a), (other, b) in pairwise(by_step) if step == other]:
        names = " and ".join(named.name for named in twice[0])
        raise UserError(f"model.path={path!r} has two checkpoints of one step, {names}; leave one of them out")
    _refuse_training(config, by_step[-1][1])
    return {step: _with(config, named) for step, named in by_step}


def measured_up_to(steps: Series, rows: Sequence[Row]) -> int | None:
    """The last step up to which the journal has every checkpoint, None where it lacks the first."""
    there = {row["step"] for row in rows}
    lacking = next((step for step in steps if step not in there), math.inf)
    return max((step for step in there if step < lacking), default=None)


def _of_folder(folder: Path) -> list[_Named]:
    numbered = [file.parent for file in sorted(folder.glob("*/config.json")) if _step(file.parent.name) >= 0]
    if not numbered:
        raise UserError(
            f"model.path={str(folder)!r} holds neither a model (config.json) nor checkpoints (folders such as "
            f"{EXAMPLE}, each with its config.json); give a folder that does"
        )
    return [_Named(checkpoint.name, str(checkpoint), None) for checkpoint in numbered]


def _of_hub(path: str, revision: object, revisions: object) -> list[_Named]:
    if not isinstance(revisions, list):
        raise UserError(f"model.revisions={revisions!r} is not a list; write model.revisions=[{revisions}]")
    if revision is not None:
        raise UserError(f"model.revision={revision!r} is given together with model.revisions; leave one of them out")
    if Path(path).is_dir():
        raise UserError(
            f"model.revisions are those of a model on the hub, but model.path={path!r} is a folder; leave them out, "
            f"as its checkpoints are the folders in it, such as {EXAMPLE}"
        )
    if numbers := [value for value in revisions if not isinstance(value, str)]:
        raise UserError(
            f"model.revisions: {numbers[0]} is not read as text; put revisions in quotes, as in "
            '\'model.revisions=["1000","2e3"]\''
        )
    if unnumbered := [name for name in revisions if _step(str(name)) < 0]:
        raise UserError(
            f"model.revisions: {str(unnumbered[0])!r} has no number to sort it by; name revisions such as step1000"
        )
    return [_Named(str(name), path, str(name)) for name in revisions]


def _step(name: str) -> int:
    """The last number in a name, -1 where there is none."""
    numbers = re.findall(r"\d+", name)
    return int(numbers[-1]) if numbers else -1


def _refuse_training(config: RunConfig, last: _Named) -> None:
    one = f"model.revision={last.revision}" if last.revision else f"model.path={last.path}"
    several = f"model.{'revisions' if last.revision else 'path'} names several checkpoints"
    if config.trainer.max_steps:
        raise UserError(
            f"trainer.max_steps={config.trainer.max_steps}: {several}, which can only be measured; set "
            f"trainer.max_steps=0, or fine-tune one of them, such as {one}"
        )
    if config.ckpt_path:
        raise UserError(f"ckpt_path={config.ckpt_path!r}: {several}, which have weights of their own; leave it out")


def _with(config: RunConfig, named: _Named) -> RunConfig:
    """The configuration with one checkpoint, and its tokenizer where data.tokenizer follows the model."""
    model, data = config.model.arguments, config.data.arguments
    chosen = {"model": {"path": named.path, "revision": named.revision, "revisions": None}}
    if data.get("tokenizer") == model["path"]:
        chosen["data"] = {"tokenizer": named.path, "tokenizer_revision": named.revision}
    composed = config.as_dict()
    for group, values in chosen.items():
        part: Any = composed[group]
        part.update(values)
    return RunConfig.of(composed)
