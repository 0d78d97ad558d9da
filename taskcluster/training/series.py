"""The checkpoints of one pretrained model, measured as the steps of one run. torch is imported only where a model is
read, so plans are quick.

in:  a run's configuration, whose model.path is a folder of checkpoints, or the name of a model with model.revisions
out: for every step the same configuration with that checkpoint as its model, which is built like any other; one
     network that takes the weights of each
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from taskcluster.config import RunConfig
from taskcluster.validation import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from taskcluster.data.datamodule import SequenceDataModule

Series = Mapping[int, RunConfig]

ADAPTER = "adapter_config.json"  # in place of config.json, beside weights that change those of another model

EXAMPLE = "step1000 or checkpoint-500"  # names of checkpoints

LARGEST = 2**53  # whole numbers that every reader of JSON has

# A factor belongs to a number where no letter or digit follows: 10k and 2.5B, but 10 in 10kept.
NUMBER = r"\d+(?:\.\d+)?(?:[kmbt](?![^\W_]))?"
AFTER_WORD = r"[\W_]*(\d+(?:\.\d+)?[km]?)(?![^\W_]|[_,.]\d)"  # not of 1_000, nor of 7b, which may be the model's size
WORDS = r"(?:step|(?<![a-z])iter(?:ation)?)s?", r"(?:checkpoint|ckpt)s?"
FACTORS = {"k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}

NO_EFFECT = ("version", "truncation", "padding", "decoder")  # parts of a tokenizer that change no token's id

LONGEST = 100  # characters of two values that are shown


class _Checkpoint(NamedTuple):
    """name: what its step is read from."""

    name: str
    path: str
    revision: str | None


def series(config: RunConfig) -> Series:
    """{step: the configuration with the checkpoint of that step}, by number: step9 before step10. {} for a model with
    one set of weights.

    A folder is one of checkpoints if it has no config.json, but folders with one and a number in their name have. Only
    models with the key `revisions` have checkpoints. Raises UserError for checkpoints that cannot be sorted, for a
    revision of a folder, and for a run that would train checkpoints.
    """
    if not is_pretrained(config):
        return {}
    model = config.model.arguments
    path, revision = str(model["path"]), model.get("revision")
    if isinstance(revision, str) and Path(path).is_dir():
        raise UserError(
            f"model.revision={revision!r}, but model.path={path!r} is a folder, and only models on the hub have "
            f"revisions; leave it out, or write model.path={Path(path, revision)} for the checkpoint of that name"
        )
    if model.get("revisions"):
        where, checkpoints = "model.revisions", _revisions(model)
    elif _holds_checkpoints(Path(path)) and not model.get("gguf_file"):
        where, checkpoints = f"model.path={path!r}", _folders(Path(path))
    else:
        return {}
    by_step: dict[int, _Checkpoint] = {}
    for checkpoint in checkpoints:
        try:
            other = by_step.setdefault(step_of(checkpoint.name), checkpoint)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
        if other is not checkpoint:
            names = f"{other.name} and {checkpoint.name}"
            raise UserError(f"{where} has two checkpoints of one step, {names}; leave one of them out")
    _refuse_training(config, by_step[max(by_step)])
    return {step: _with(config, by_step[step]) for step in sorted(by_step)}


def is_pretrained(config: RunConfig) -> bool:
    """Whether the model of a run is a pretrained one, with weights at its path."""
    model = config.model.arguments
    return "revisions" in model and bool(model.get("path"))


def named(config: RunConfig) -> str:
    """The checkpoint that is the model of a configuration."""
    if not is_pretrained(config):
        return "model"
    model = config.model.arguments
    revision = model.get("revision")
    return f"model.path={model['path']!r}{f' at revision {revision!r}' if revision else ''}"


def step_of(name: str) -> int:
    """The number in a checkpoint's name after `step` or `iter`, else after `checkpoint` or `ckpt`, else its only
    number; with a factor k, M, B or T.

    Raises ValueError where there is none, several could be the step, or the number is not a whole one.
    """
    numbers = re.findall(NUMBER, name, re.IGNORECASE)
    if not numbers:
        raise ValueError(f"{name!r} has no number to sort it by; name revisions such as {EXAMPLE}")
    after_words = (re.findall(word + AFTER_WORD, name, re.IGNORECASE) for word in WORDS)
    values = {_value(number) for number in next(filter(None, after_words), numbers)}
    step = values.pop()
    if values or step != int(step) or step >= LARGEST:
        raise ValueError(f"{name!r} does not say which number is its step ({', '.join(numbers)}); name it as {EXAMPLE}")
    return int(step)


def _value(number: str) -> Decimal:
    factor = FACTORS.get(number[-1].lower())
    return Decimal(number[:-1]) * factor if factor else Decimal(number)


def _holds_checkpoints(folder: Path) -> bool:
    return folder.is_dir() and not any((folder / name).exists() for name in ("config.json", ADAPTER))


def _folders(folder: Path) -> list[_Checkpoint]:
    """The checkpoints in a folder: folders with a config.json and a number in their name."""
    files = [file for name in ("config.json", ADAPTER) for file in folder.glob(f"*/{name}")]
    names = sorted({file.parent.name for file in files if re.search(r"\d", file.parent.name)})
    if not names:
        raise UserError(
            f"model.path={str(folder)!r} holds neither a model (config.json) nor checkpoints (folders such as "
            f"{EXAMPLE}, each with its config.json); give a folder that does"
        )
    return [_Checkpoint(name, str(folder / name), None) for name in names]


def _revisions(model: Mapping[str, object]) -> list[_Checkpoint]:
    """The checkpoints of a model on the hub. Raises UserError for wrong ones."""
    path, revisions = str(model["path"]), model["revisions"]
    if not isinstance(revisions, list):
        raise UserError(f"model.revisions={revisions!r} is not a list; write model.revisions=[{revisions}]")
    if Path(path).is_dir():
        raise UserError(
            f"model.revisions are those of a model on the hub, but model.path={path!r} is a folder; leave them out, "
            f"as its checkpoints are the folders in it, such as {EXAMPLE}"
        )
    for revision in revisions:
        if not isinstance(revision, str):
            raise UserError(
                f"model.revisions: {revision} is not read as text; put revisions in quotes, as in "
                '\'model.revisions=["1000","2000"]\''
            )
    return [_Checkpoint(revision, path, revision) for revision in revisions]


def _refuse_training(config: RunConfig, last: _Checkpoint) -> None:
    one = f"model.revision={last.revision}" if last.revision else f"model.path={last.path}"
    several = f"model.{'revisions' if last.revision else 'path'} names several checkpoints"
    if config.trainer.max_steps:
        raise UserError(
            f"trainer.max_steps={config.trainer.max_steps}: {several}, which can only be measured; set "
            f"trainer.max_steps=0, or fine-tune one of them, such as {one}"
        )


def _with(config: RunConfig, checkpoint: _Checkpoint) -> RunConfig:
    """The configuration with one checkpoint, and its tokenizer where data.tokenizer follows the model."""
    composed: dict[str, Any] = config.as_dict()
    if config.data.arguments.get("tokenizer") == config.model.arguments["path"]:
        composed["data"] |= {"tokenizer": checkpoint.path, "tokenizer_revision": checkpoint.revision}
    composed["model"] |= {"path": checkpoint.path, "revision": checkpoint.revision, "revisions": None}
    return RunConfig.of(composed)


def refuse_different(steps: Series) -> None:
    """Raise UserError, before any is measured, for a checkpoint that cannot be read, and for one that differs from the
    first in architecture or tokenizer. Of weights in folders only names and shapes are read; of those on the hub,
    nothing yet.
    """
    traits = {named(config): {**_model_traits(config), **_tokenizer_traits(config)} for config in steps.values()}
    for name, values in traits.items():
        first = next(iter(traits))
        if differing := _differences(values, traits[first]):
            raise UserError(f"{name} differs from {first} in {differing}; leave it out")


def refuse_unreadable(config: RunConfig) -> None:
    """Raise UserError for a pretrained model whose files cannot be read, before its tokenizer is loaded and its prompts
    are made."""
    if is_pretrained(config):
        _model_traits(config)


def _model_traits(config: RunConfig) -> Mapping[str, object]:
    """Settings of a pretrained model that decide what it computes, and in a folder the shapes of its weights."""
    from taskcluster.models.pretrained import traits

    model = config.model.arguments
    if model.get("gguf_file") or not all(isinstance(model.get(key), str | None) for key in ("path", "revision")):
        return {}  # a value that is not text is refused where the model is built
    try:
        return traits(str(model["path"]), _text(model, "revision"), bool(model.get("trust_remote_code")))
    except ValueError as error:
        raise UserError(config.model.named(str(error))) from None


def _tokenizer_traits(config: RunConfig) -> Mapping[str, object]:
    """What decides the ids of a text, and of a turn of a chat."""
    from taskcluster.data.tokenizer import load_tokenizer, render_frame

    data = config.data.arguments
    if not (name := _text(data, "tokenizer")):
        return {}
    try:
        tokenizer = load_tokenizer(name, _text(data, "tokenizer_revision"), _text(data, "tokenizer_gguf_file"))
        parts: dict[str, object] = json.loads(tokenizer.backend_tokenizer.to_str())
        if data.get("chat"):
            parts |= {"chat frame": render_frame(tokenizer), "special tokens": tokenizer.special_tokens_map}
    except ValueError as error:
        raise UserError(f"{named(config)}: {config.data.named(str(error))}") from None
    return {f"the tokenizer's {key}": part for key, part in parts.items() if key not in NO_EFFECT}


def _text(arguments: Mapping[str, object], key: str) -> str | None:
    return None if (value := arguments.get(key)) is None else str(value)


def _differences(values: Mapping[str, object], others: Mapping[str, object]) -> str:
    """The keys whose values differ, with both values where they are short; "" for none."""
    words = []
    for key in {**values, **others}:
        value, other = str(values.get(key, "missing")), str(others.get(key, "missing"))
        if value != other:
            words.append(f"{key} ({value}, not {other})" if len(value + other) < LONGEST else key)
    return ", ".join(words)


def put_checkpoint(config: RunConfig, data: "SequenceDataModule", network: "PreTrainedModel") -> None:
    """Put the weights of a checkpoint, the model of `config`, into a network. Raises UserError where they do not
    fit."""
    from transformers import PreTrainedModel

    from taskcluster.runs.checkpoints import refuse_other_weights

    checkpoint = config.model.build(PreTrainedModel, vocab_size=len(data.tokenizer), longest=data.longest)
    weights = checkpoint.state_dict()
    refuse_other_weights(named(config), weights, network)
    network.load_state_dict(weights)


@contextmanager
def loss_as_loaded(config: RunConfig) -> Iterator[None]:
    """A context that measures a model as it is. Raises UserError for a loss that is not finite before any update, of
    which no learning rate is the cause."""
    from taskcluster.models.training_module import TrainingDiverged

    try:
        yield
    except TrainingDiverged as error:
        if error.step and config.trainer.max_steps:
            raise
        instead = "choose another checkpoint" if is_pretrained(config) else "change the model's settings"
        if config.model.arguments.get("dtype") == "float16":
            instead = "choose model.dtype=float32, as float16 has no numbers above 65504"
        raise UserError(f"{named(config)}: {error}, although no update has been made; {instead}") from None
