"""Read and validate config.yaml, catalogue.json, status.json and results.json of a run folder.

in:  the path of a file
out: its content, in which the keys below, where they exist, have the types given here
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from taskcluster.metrics import OWN, Catalogue, Metric, catalogue
from taskcluster.validation import UserError, sentences

LARGEST = 2**53  # whole numbers that every reader of JSON has

# Where the targets of configurations recorded by versions before 0.2 are now, by module.
MOVED = {
    "taskcluster.measures.agglomerative": "taskcluster.measures.clusterers.scikit_learn",
    "taskcluster.measures.gaussian_mixture": "taskcluster.measures.clusterers.scikit_learn",
    "taskcluster.measures.clusterers.agglomerative": "taskcluster.measures.clusterers.scikit_learn",
    "taskcluster.measures.clusterers.gaussian_mixture": "taskcluster.measures.clusterers.scikit_learn",
    "taskcluster.measures.kmeans": "taskcluster.measures.clusterers.kmeans",
    "taskcluster.measures.large_kmeans": "taskcluster.measures.clusterers.large_kmeans",
    "taskcluster.measures.interventions": "taskcluster.measures.interventions.causal_effects",
    "taskcluster.measures.interventions.interventions": "taskcluster.measures.interventions.causal_effects",
    "taskcluster.measures.number_of_clusters": "taskcluster.measures.instruments",
    "taskcluster.measures.other_scores": "taskcluster.measures.instruments",
    "taskcluster.measures.surface": "taskcluster.measures.baselines",
    "taskcluster.measures.untrained": "taskcluster.measures.baselines",
    "taskcluster.models.gpt2": "taskcluster.models.from_scratch",
    "taskcluster.models.gpt_neox": "taskcluster.models.from_scratch",
    "taskcluster.models.llama": "taskcluster.models.from_scratch",
    "taskcluster.measures.nuisance": "taskcluster.measures.controls",
    "taskcluster.tracking.mirror": "taskcluster.operations.tracking.mirror",
    "taskcluster.tracking.tensorboard": "taskcluster.operations.tracking.tensorboard",
    "taskcluster.tracking.wandb": "taskcluster.operations.tracking.wandb",
}
# Keys that they lack, with the values that reproduce the behaviour of then.
ADDED: dict[str, dict[str, Any]] = {
    "taskcluster.measures.controls.KMeansNoise": {"at": ["instruction_end", "input"]},
    "taskcluster.measures.clustering.ClusteringAtX": {"train": True, "of": ["all", "within"]},
    "taskcluster.measures.interventions.causal_effects.Interventions": {"spans": ["layer"]},
    "pytorch_lightning.Trainer": {"compile": None},
    "taskcluster.tasks.facts.facts_family": {"shuffle_labels": False},
    "taskcluster.tasks.pairs.pairs_family": {"shuffle_labels": False},
}

NEXT_TOKEN = {  # the only objective then
    "_target_": "taskcluster.objectives.next_token.NextToken",
    **dict.fromkeys(("instruction", "x", "y")),
}

Count = Annotated[int, Field(ge=0, lt=LARGEST)]

# The same YAML, read ten times as fast where libyaml is there.
FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


# Before each key at the top of a YAML file as PyYAML writes it.
TOP = re.compile(rb"^(?=[A-Za-z_]\w*:\s)", re.MULTILINE)


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class Config(_Record):
    trainer: dict[str, Any] = {}
    seeds: dict[str, Any] = {}
    logger: dict[str, Any] = {}


class Start(_Record):
    step: Count = 0
    max_steps: Count | None = None
    steps: list[Count] = []


class Status(_Record):
    state: Literal["running", "finished", "interrupted", "failed"]
    id: str | None = None
    error: str | None = None
    step: Count | None = None
    wall_seconds: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    starts: Annotated[list[Start], Field(min_length=1)] = []


class Results(_Record):
    claims: list[dict[str, Any]]
    final: dict[str, float | str | list[list[float | None]] | None]
    controls: dict[str, list[list[float | None]]] = {}


class Declared(BaseModel):
    metrics: Annotated[list[Metric], Field(min_length=1)]


def declared(content: bytes | None, file: Path) -> Catalogue:
    """Return the catalogue that `content` holds, which was read from `file`; the package's metrics for None. Raises
    UserError for a file that is damaged."""
    with _damage(file):
        return catalogue(OWN) if content is None else _declared(content)


@lru_cache(maxsize=64)
def _declared(content: bytes) -> Catalogue:
    """One object for all runs that declare the same."""
    return {metric.key: metric for metric in Declared.model_validate(_json(content)).metrics}


def contents(file: Path) -> bytes | None:
    """The bytes of a file, None if it does not exist. Raises UserError for one that cannot be read."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); restore it, or choose another folder") from None


def read(file: Path, model: type[BaseModel]) -> dict[str, Any]:
    """A record, {} if the file does not exist. Raises UserError for a file that is damaged or not what `model` says."""
    content = contents(file)
    return {} if content is None else parsed(content, file, model)


def parsed(content: bytes, file: Path, model: type[BaseModel]) -> dict[str, Any]:
    """The record that `content` holds, which was read from `file`. Raises UserError likewise."""
    with _damage(file):
        record: dict[str, Any] = _json(content) if file.suffix == ".json" else _yaml(content)
        model.model_validate(record)
        return _with_objective(record) if issubclass(model, Config) else record


@contextmanager
def _damage(file: Path) -> Iterator[None]:
    """A context that raises UserError for content of `file` that cannot be read."""
    try:
        yield
        return
    except ValidationError as error:
        problem = f" ({sentences(error).split('; ')[0]})" if error.errors()[0]["loc"] else ""
    except (ValueError, yaml.YAMLError, RecursionError):
        problem = ""
    raise UserError(f"{file} is damaged{problem}; restore it, or choose another folder")


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except ValueError:
        return json.loads(content)  # which also reads NaN


def _yaml(content: bytes) -> Any:
    """A recorded configuration, updated but for its objective. Runs of a sweep share most of the values at the top,
    and a value that several have is read once: it must not be changed."""
    parts = [part for part in TOP.split(content) if part] or [content]
    try:
        return {key: value for part in parts for key, value in _part(part).items()}
    except (yaml.YAMLError, AttributeError):  # another way to write YAML
        return _updated(yaml.load(content, FastLoader))


@lru_cache(maxsize=4096)
def _part(content: bytes) -> Any:
    record: Any = yaml.load(content, FastLoader)
    return {key: _updated(value) for key, value in record.items()}


def _with_objective(config: dict[str, Any]) -> dict[str, Any]:
    known = "objective" in config or "trainer" not in config
    return config if known else config | {"objective": {"next_token": NEXT_TOKEN}}


def _updated(node: Any) -> Any:
    """Return a part of a recorded configuration as this version would record it."""
    if isinstance(node, list):
        return [_updated(part) for part in node]
    if not isinstance(node, dict):
        return node
    if isinstance(target := node.get("_target_"), str):
        module, _, name = target.rpartition(".")
        node = ADDED.get(target, {}) | node | {"_target_": f"{MOVED.get(module, module)}.{name}"}
        if "shuffle_labels" in node:
            node.setdefault("order_seed", node.get("seed"))
    return {key: _updated(part) for key, part in node.items()}


def text(name: str) -> str:
    """Return a file's name or content on one line, without characters that an encoder may refuse."""
    return "".join(c if c.isprintable() else "?" for c in re.sub(r"\s", " ", name))
