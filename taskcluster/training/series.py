"""Checkpoints that others trained, one after the other in one network.

in:  a Series, the network of its first checkpoint
out: the same network with the weights of another checkpoint; what differs between checkpoints, in one sentence
"""

import json
from collections.abc import Mapping

from transformers import PreTrainedModel

from taskcluster.config import RunConfig
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.tokenizer import load_tokenizer, render_frame
from taskcluster.models.pretrained import traits
from taskcluster.runs.checkpoints import refuse_other_weights
from taskcluster.runs.series import Series
from taskcluster.validation import UserError

OF_A_CALL = ("truncation", "padding")  # which a tokenizer may have been saved with, and we do not use

LONGEST = 100  # characters of two values that are told


def refuse_different(steps: Series) -> None:
    """Raise UserError, before any is measured, for a checkpoint that cannot be read, and for one that differs from the
    one before it in architecture or tokenizer. Of weights in folders only names and shapes are read; of those on the
    hub, nothing yet.
    """
    before: tuple[str, Mapping[str, str]] | None = None
    for config in steps.values():
        name, found = named(config), _traits(config)
        other, known = before or (name, found)
        if differing := sorted(key for key in found.keys() | known.keys() if found.get(key) != known.get(key)):
            raise UserError(f"{name} differs from {other} in {_words(differing[0], found, known)}; leave it out")
        before = name, found


def put_checkpoint(config: RunConfig, data: SequenceDataModule, network: PreTrainedModel) -> None:
    """Put the weights of a checkpoint, the model of `config`, into a network. Raises UserError where they do not
    fit."""
    loaded = config.model.build(PreTrainedModel, vocab_size=len(data.tokenizer), longest=data.longest)
    weights = loaded.state_dict()
    refuse_other_weights(named(config), weights, network)
    network.load_state_dict(weights)


def _traits(config: RunConfig) -> Mapping[str, str]:
    """Of architecture, weights and tokenizer. Raises UserError."""
    model, data = config.model.arguments, config.data.arguments
    try:
        found = {} if model.get("gguf_file") else traits(str(model["path"]), _text(model, "revision"))
    except ValueError as error:
        raise UserError(config.model.named(str(error))) from None
    if not (name := _text(data, "tokenizer")):
        return found
    try:
        tokenizer = load_tokenizer(name, _text(data, "tokenizer_revision"), _text(data, "tokenizer_gguf_file"))
    except ValueError as error:
        raise UserError(config.data.named(str(error))) from None
    parts: dict[str, object] = json.loads(tokenizer.backend_tokenizer.to_str())
    if data.get("chat"):
        try:
            parts["chat frame"] = render_frame(tokenizer)
        except ValueError as error:
            raise UserError(f"{named(config)}: data.{error}") from None
    return {**found, **{f"the tokenizer's {key}": str(part) for key, part in parts.items() if key not in OF_A_CALL}}


def _text(arguments: Mapping[str, object], key: str) -> str | None:
    return None if (value := arguments.get(key)) is None else str(value)


def _words(key: str, found: Mapping[str, str], known: Mapping[str, str]) -> str:
    """What differs, with both values where they are short."""
    here, there = found.get(key, "missing"), known.get(key, "missing")
    return f"{key} ({here}, not {there})" if len(here + there) < LONGEST else key


def named(config: RunConfig) -> str:
    """The checkpoint that is the model of a configuration."""
    given = config.model.arguments
    revision = given.get("revision")
    return f"model.path={given['path']!r}{f' at revision {revision!r}' if revision else ''}"
