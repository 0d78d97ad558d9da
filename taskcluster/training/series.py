"""Measure the checkpoints of one pretrained model as the steps of one run. torch is imported only to read a model, so
plans are quick.

in:  a run's configuration, whose model.path is a folder of checkpoints, or the name of a model with model.revisions
out: for every step the same configuration with that checkpoint as its model, which is built like any other; one
     network that takes the weights of each
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskcluster.config import RunConfig
from taskcluster.data.sources import revisions_of
from taskcluster.runs.records import LARGEST
from taskcluster.validation import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from taskcluster.data.datamodule import SequenceDataModule

Series = Mapping[int, RunConfig]

MODEL_FILES = ("config.json", "adapter_config.json")  # a folder with one of them is a model

EXAMPLE = "step1000 or checkpoint-500"  # names of checkpoints

# A factor belongs to a number where no letter or digit follows: 10k and 2.5B, but 10 in 10kept.
NUMBER = r"\d+(?:\.\d+)?(?:[kmbt](?![^\W_]))?"
AFTER_WORD = r"[\W_]*(\d+(?:\.\d+)?[km]?)(?![^\W_]|[_,.]\d)"  # not of 1_000, nor of 7b, which may be the model's size
WORDS = r"(?:step|(?<![a-z])iter(?:ation)?)s?", r"(?:checkpoint|ckpt)s?"
FACTORS = {"k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}

NO_EFFECT = ("version", "truncation", "padding", "decoder")  # parts of a tokenizer that change no token's id


def series(config: RunConfig) -> Series:
    """{step: the configuration with the checkpoint of that step}, by number: step9 before step10. {} for a model with
    one set of weights.

    A folder is one of checkpoints if it has no config.json, but folders with one and a number in their name have. Only
    models with the key `revisions` have checkpoints. Raises UserError for checkpoints that cannot be sorted, for a
    revision of a folder, and for a run that would train checkpoints.
    """
    if not is_pretrained(config):
        return {}
    model: dict[str, Any] = config.model.arguments
    path, revisions = Path(str(model["path"])), model.get("revisions")
    given = revisions or model.get("revision")
    if path.is_dir() and isinstance(given, str | list) and given:  # another type is refused where the model is built
        raise UserError(
            f"model.revision{'s' * bool(revisions)}={given!r}, but model.path={str(path)!r} is a folder, and only "
            f"models on the hub have revisions; leave it out, or choose one in it, as in model.path={path}/step1000"
        )
    if revisions:
        key, checkpoints = "revisions", _revisions(model["path"], revisions)
    elif path.is_dir() and not any((path / name).exists() for name in MODEL_FILES) and not model.get("gguf_file"):
        key, checkpoints = "path", _folders(path)
    else:
        return {}
    try:
        steps = [step_of(name) for name in checkpoints]
    except ValueError as error:
        raise UserError(f"model.{key}: {error}") from None
    if repeated := [step for step in steps if steps.count(step) > 1]:
        names = [name for step, name in zip(steps, checkpoints, strict=True) if step == repeated[0]]
        raise UserError(f"model.{key} has two checkpoints of one step, {' and '.join(names)}; leave one of them out")
    if config.trainer.max_steps:
        raise UserError(
            f"trainer.max_steps={config.trainer.max_steps}: model.{key} names several checkpoints, which can only be "
            "measured; set trainer.max_steps=0, or fine-tune one of them, such as "
            f"{'model.revision=' if revisions else f'model.path={path}/'}{[*checkpoints][-1]}"
        )
    by_step = dict(sorted(zip(steps, checkpoints.values(), strict=True)))
    return {step: _with(config, *checkpoint) for step, checkpoint in by_step.items()}


def is_pretrained(config: RunConfig) -> bool:
    """Whether the model of a run is a pretrained one, with weights at its path."""
    model = config.model.arguments
    return "revisions" in model and bool(model.get("path"))


def named(config: RunConfig) -> str:
    """The name of the checkpoint in a configuration."""
    model = config.model.arguments
    if not is_pretrained(config):
        return "model"
    return f"model.path={model['path']!r}" + (f" at revision {model['revision']!r}" if model.get("revision") else "")


def step_of(name: str) -> int:
    """The number in a checkpoint's name after `step` or `iter`, else after `checkpoint` or `ckpt`, else its only
    number; with a factor k, M, B or T.

    Raises ValueError where there is none, several could be the step, or the number is not a whole one.
    """
    numbers = re.findall(NUMBER, name, re.IGNORECASE)
    after_words = (re.findall(word + AFTER_WORD, name, re.IGNORECASE) for word in WORDS)
    values = {
        Decimal(number.rstrip("kmbtKMBT")) * FACTORS.get(number[-1].lower(), 1)
        for number in next(filter(None, after_words), numbers)
    }
    step = values.pop() if len(values) == 1 else LARGEST
    if step != int(step) or step >= LARGEST:
        there = ", ".join(numbers) or "it has none"
        raise ValueError(f"{name!r} does not say which number is its step ({there}); name it as {EXAMPLE}")
    return int(step)


def _folders(folder: Path) -> dict[str, tuple[str, str | None]]:
    """{name: (path, no revision)} of the folders with a model and a number in their name."""
    files = [file for name in MODEL_FILES for file in folder.glob(f"*/{name}")]
    names = sorted({file.parent.name for file in files if re.search(r"\d", file.parent.name)})
    if not names:
        raise UserError(
            f"model.path={str(folder)!r} contains neither a model (config.json) nor checkpoints (folders such as "
            f"{EXAMPLE}, each with its config.json); give a folder that does"
        )
    return {name: (str(folder / name), None) for name in names}


def _revisions(path: str, given: object) -> dict[str, tuple[str, str | None]]:
    """{revision: (path, revision)} of a model on the hub; of a pattern, those revisions with a number that match it."""
    revisions = [given] if isinstance(given, str) else given
    if not isinstance(revisions, list) or not all(isinstance(revision, str) for revision in revisions):
        raise UserError(
            f"model.revisions={revisions!r} is not a list of texts; write it as in model.revisions=[step1,step2] or "
            '\'model.revisions=["1000","2000"]\''
        )
    named: dict[str, tuple[str, str | None]] = {}
    for revision in revisions:
        known = revisions_of(path) if re.search(r"[*?[]", revision) else (revision,)
        matching = [name for name in known if name == revision or (fnmatch(name, revision) and re.search(r"\d", name))]
        if not matching:
            there = f"such as {', '.join(known[:3])}" if known else "or it is neither on the hub nor in its cache"
            raise UserError(f"model.revisions={revision!r} matches no revision of {path}, {there}; change the pattern")
        named |= {name: (path, name) for name in matching}
    return named


def _with(config: RunConfig, path: str, revision: str | None) -> RunConfig:
    """The configuration with one checkpoint, and its tokenizer where data.tokenizer follows the model."""
    composed: dict[str, Any] = config.as_dict()
    if config.data.arguments.get("tokenizer") == config.model.arguments["path"]:
        composed["data"] |= {"tokenizer": path, "tokenizer_revision": revision}
    composed["model"] |= {"path": path, "revision": revision, "revisions": None}
    return RunConfig.of(composed)


def refuse_different(steps: Series) -> None:
    """Raise UserError, before prompts are made, for a pretrained model whose files cannot be read, and for a checkpoint
    that differs from the first in architecture or tokenizer. Of weights in folders only names and shapes are read; of
    those on the hub, nothing yet.
    """
    traits = {named(config): dict(_model_traits(config)) for config in steps.values() if is_pretrained(config)}
    if len(steps) > 1:
        traits = {named(config): traits[named(config)] | _tokenizer_traits(config) for config in steps.values()}
    for name, values in traits.items():
        first, expected = next(iter(traits.items()))
        pairs = {key: (str(values.get(key)), str(expected.get(key))) for key in {**values, **expected}}
        if differing := [f"{key} ({one:.40}, not {other:.40})" for key, (one, other) in pairs.items() if one != other]:
            raise UserError(f"{name} differs from {first} in {', '.join(differing)}; leave it out")


def _model_traits(config: RunConfig) -> Mapping[str, object]:
    """Return the settings of a pretrained model that affect its output, and, in a folder, the shapes of its weights."""
    from taskcluster.models.pretrained import traits

    model: dict[str, Any] = config.model.arguments
    path, revision = model["path"], model.get("revision")
    if model.get("gguf_file") or not isinstance(path, str) or not isinstance(revision, str | None):
        return {}  # a value that is not text is refused where the model is built
    try:
        return traits(path, revision, bool(model.get("trust_remote_code")))
    except ValueError as error:
        raise UserError(config.model.named(str(error))) from None


def _tokenizer_traits(config: RunConfig) -> dict[str, object]:
    """Return the parts of a tokenizer that affect the ids of a text or of a chat turn."""
    from taskcluster.data.tokenizer import load_tokenizer, render_frame

    data: dict[str, Any] = config.data.arguments
    if not data.get("tokenizer"):
        return {}
    try:
        tokenizer = load_tokenizer(data["tokenizer"], data.get("tokenizer_revision"), data.get("tokenizer_gguf_file"))
        parts: dict[str, object] = json.loads(tokenizer.backend_tokenizer.to_str())
        if data.get("chat"):
            parts |= {"chat frame": "...".join(render_frame(tokenizer)), "special tokens": tokenizer.special_tokens_map}
    except ValueError as error:
        raise UserError(f"{named(config)}: {config.data.named(str(error))}") from None
    return {f"the tokenizer's {key}": part for key, part in parts.items() if key not in NO_EFFECT}


def put_checkpoint(config: RunConfig, data: "SequenceDataModule", network: "PreTrainedModel") -> None:
    """Load the weights of a checkpoint, the model of `config`, into a network. Raises UserError if they do not fit."""
    from transformers import PreTrainedModel

    from taskcluster.runs.checkpoints import refuse_other_weights

    checkpoint = config.model.build(PreTrainedModel, vocab_size=len(data.tokenizer), longest=data.longest)
    weights = checkpoint.state_dict()
    refuse_other_weights(named(config), weights, network)
    network.load_state_dict(weights)
