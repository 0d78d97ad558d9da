"""The checkpoints of one pretrained model as the steps of one run. Free of torch.

in:  a run's configuration, whose model.path is a folder of checkpoints, or the name of a model with model.revisions
out: for every step the same configuration with that checkpoint as its model, which is built like any other
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from taskcluster.config import RunConfig
from taskcluster.runs.journal import Row
from taskcluster.runs.step_names import EXAMPLE, step_of
from taskcluster.validation import UserError

Series = Mapping[int, RunConfig]

ADAPTER = "adapter_config.json"  # in the place of config.json, beside weights that change those of another model


class _Named(NamedTuple):
    """A checkpoint by the name that its step is read from."""

    name: str
    path: str
    revision: str | None


def series(config: RunConfig) -> Series:
    """{step: the configuration with the checkpoint of that step}, by number: step9 before step10. {} for a model with
    one set of weights.

    A folder is one of checkpoints if it has no config.json, but folders with one and a number in their name have. Only
    models with the key `revisions` have checkpoints. Raises UserError for what cannot be sorted, for a revision of a
    folder, and for a run that would train checkpoints.
    """
    given = config.model.arguments
    path, revisions = given.get("path"), given.get("revisions")
    _refuse_revision_of_a_folder(config)
    if not is_pretrained(config):
        return {}
    if revisions:
        checkpoints = _of_hub(given)
    elif _holds_checkpoints(Path(str(path))) and not given.get("gguf_file"):
        checkpoints = _of_folder(Path(str(path)))
    else:
        return {}
    where = "model.revisions" if revisions else f"model.path={path!r}"
    by_step = sorted((_step(checkpoint.name, where), checkpoint) for checkpoint in checkpoints)
    if twice := [(a, b) for (step, a), (other, b) in pairwise(by_step) if step == other]:
        names = " and ".join(checkpoint.name for checkpoint in twice[0])
        raise UserError(f"{where} has two checkpoints of one step, {names}; leave one of them out")
    _refuse_training(config, by_step[-1][1])
    return {step: _with(config, checkpoint) for step, checkpoint in by_step}


def measured_up_to(steps: Series, rows: Sequence[Row]) -> int | None:
    """The last step up to which the journal has every checkpoint, None where it lacks the first."""
    there = {row["step"] for row in rows}
    lacking = next((step for step in steps if step not in there), math.inf)
    return max((step for step in there if step < lacking), default=None)


def is_pretrained(config: RunConfig) -> bool:
    """Whether the model of a run is a pretrained one, with weights at its path."""
    given = config.model.arguments
    return "revisions" in given and bool(given.get("path"))


def _refuse_revision_of_a_folder(config: RunConfig) -> None:
    """Raise UserError for a revision that would be ignored, since only models on the hub have revisions."""
    model, data = config.model.arguments, config.data.arguments
    given = {}
    if is_pretrained(config):
        given["model.revision"] = model.get("revision"), "model.path", model["path"]
    if data.get("tokenizer_revision") != model.get("revision"):  # which it follows by default
        given["data.tokenizer_revision"] = data.get("tokenizer_revision"), "data.tokenizer", data.get("tokenizer")
    for key, (revision, of, path) in given.items():
        if isinstance(revision, str) and path and Path(str(path)).is_dir():
            inside = Path(str(path), str(revision))
            instead = f", or write {of}={inside}" if inside.is_dir() else ""
            raise UserError(
                f"{key}={revision!r}, but {of}={path!r} is a folder, and only models on the hub have revisions; leave "
                f"it out{instead}"
            )


def _holds_checkpoints(folder: Path) -> bool:
    return folder.is_dir() and not any((folder / name).exists() for name in ("config.json", ADAPTER))


def _of_folder(folder: Path) -> list[_Named]:
    where = f"model.path={str(folder)!r}"
    files = [file for name in ("config.json", ADAPTER) for file in folder.glob(f"*/{name}")]
    names = sorted({file.parent.name for file in files})
    numbered = [name for name in names if any(character.isdecimal() for character in name)]
    if not numbered:
        raise UserError(
            f"{where} holds neither a model (config.json) nor checkpoints (folders such as "
            f"{EXAMPLE}, each with its config.json); give a folder that does"
        )
    return [_Named(name, str(folder / name), None) for name in numbered]


def _of_hub(given: Mapping[str, object]) -> list[_Named]:
    path, revisions = str(given["path"]), given["revisions"]
    if not isinstance(revisions, list):
        raise UserError(f"model.revisions={revisions!r} is not a list; write model.revisions=[{revisions}]")
    for key in ("revision", "gguf_file"):
        if given.get(key) is not None:
            raise UserError(f"model.{key}={given[key]!r} is given together with model.revisions; leave one of them out")
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
    return [_Named(str(name), path, str(name)) for name in revisions]


def _step(name: str, where: str) -> int:
    try:
        step = step_of(name)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    if step is None:
        raise UserError(f"{where}: {name!r} has no number to sort it by; name revisions such as {EXAMPLE}")
    return step


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
