"""Read and validate config.yaml, catalogue.json, status.json and results.json of a run folder.

in:  the path of a file
out: its content, in which the keys below, where they exist, have the types given here
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

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
    "taskcluster.measures.nuisance": "taskcluster.measures.controls",
    "taskcluster.tracking.mirror": "taskcluster.operations.tracking.mirror",
    "taskcluster.tracking.tensorboard": "taskcluster.operations.tracking.tensorboard",
    "taskcluster.tracking.wandb": "taskcluster.operations.tracking.wandb",
}
# Keys that they lack, with the values that reproduce the behaviour of then.
ADDED: dict[str, dict[str, Any]] = {
    "taskcluster.measures.controls.KMeansNoise": {"at": ["instruction_end", "input"]},
    "taskcluster.measures.clustering.ClusteringAtX": {"train": True},
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


def declared(record: Mapping[str, Any]) -> Catalogue:
    """Return the catalogue of a Declared record; the package's metrics if it has none."""
    return {m.key: m for m in Declared.model_validate(record).metrics} if record else catalogue(OWN)


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
    try:
        record: dict[str, Any] = json.loads(content) if file.suffix == ".json" else yaml.load(content, FastLoader)
        model.model_validate(record)
        return _updated(record) if issubclass(model, Config) else record
    except ValidationError as error:
        problem = f" ({sentences(error).split('; ')[0]})" if error.errors()[0]["loc"] else ""
    except (ValueError, yaml.YAMLError, RecursionError):
        problem = ""
    raise UserError(f"{file} is damaged{problem}; restore it, or choose another folder")


def _updated(node: Any) -> Any:
    """Return a recorded configuration as this version would record it."""
    if isinstance(node, list):
        return [_updated(part) for part in node]
    if not isinstance(node, dict):
        return node
    if "trainer" in node and "objective" not in node:
        node = node | {"objective": {"next_token": NEXT_TOKEN}}
    if isinstance(target := node.get("_target_"), str):
        module, _, name = target.rpartition(".")
        node = ADDED.get(target, {}) | node | {"_target_": f"{MOVED.get(module, module)}.{name}"}
        if "shuffle_labels" in node:
            node.setdefault("order_seed", node.get("seed"))
    return {key: _updated(part) for key, part in node.items()}


def text(name: str) -> str:
    """Return a file's name or content on one line, without characters that an encoder may refuse."""
    return "".join(c if c.isprintable() else "?" for c in re.sub(r"\s", " ", name))
