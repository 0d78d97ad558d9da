"""The condition of a run (all settings except seeds and those that change no number), and its seeds.

in:  a run's resolved configuration
out: dotted keys and values, and a digest of them

The report, the dashboard, the folders and W&B all group runs by this one definition. Free of torch.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

# Keys that change no number of a run, or that follow from the others when it begins, as data.chat_frame does.
WITHOUT_EFFECT = ("name", "resume", "logger.", "callbacks.checkpoint.", "trainer.max_time", "data.chat_frame")

# The seeds of components, each with the source of randomness that it follows unless set by itself (see train.yaml).
FOLLOWS = {
    "task.seed": "tasks",
    "task.order_seed": "tasks",
    "data.seed": "batches",
    "data.probe_seed": "probe",
    "model.seed": "model",
    "clusterer.seed": "kmeans",
}

# Keys with the name of a pretrained model, and in it the seed of one of a suite (pythia-70m-seed3 of PolyPythias).
SUITE = ("model.path", "data.tokenizer")
TRAINED_WITH = re.compile(r"(?<=[-_]seed)\d+")

Config = Mapping[str, Any]


def flatten(config: Config, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


@lru_cache(maxsize=4096)
def matters(key: str) -> bool:
    """Whether a dotted key of the configuration affects a run's numbers."""
    return not key.startswith(WITHOUT_EFFECT)


def differing_keys(one: Config, other: Config) -> list[str]:
    """Return the dotted keys that affect a run's numbers and have different values."""
    old, new = flatten(one), flatten(other)
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key) and matters(key))


@lru_cache(maxsize=4096)
def is_seed(key: str) -> bool:
    """Whether a dotted key of the configuration is a seed: seed, seeds.kmeans, task.seed, data.probe_seed."""
    return key.startswith("seeds.") or re.fullmatch(r"(.*[._])?seed", key) is not None


def content(config: Config) -> dict[str, Any]:
    """Return dotted key -> value of all settings that affect a run's numbers, seeds included."""
    return {key: value for key, value in flatten(config).items() if matters(key)}


def decisive(config: Config) -> dict[str, Any]:
    """Return the condition: dotted key -> value of all settings that affect a run's numbers, except seeds; and
    "objective", the joined names of its objectives."""
    values = {key: value for key, value in content(config).items() if not is_seed(key)}
    if objectives := config.get("objective"):
        values["objective"] = "+".join(objectives)
    return values | {key: without_seed(values[key]) for key in SUITE if key in values}


def without_seed(path: Any) -> Any:
    """The name of a pretrained model without the seed that it was trained with: pythia-70m-seedN."""
    return TRAINED_WITH.sub("N", path) if isinstance(path, str) else path


def digest(values: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that identify these values."""
    text = json.dumps(_with_text_keys(values), sort_keys=True, default=str)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _with_text_keys(one) for key, one in value.items()}
    return [_with_text_keys(one) for one in value] if isinstance(value, list) else value


def separate_seeds(config: Config) -> dict[str, Any]:
    """Return the seeds that do not follow `seed`: {"seeds.kmeans": 3}, {"data.probe_seed": 5}."""
    sources, seed = config.get("seeds") or {}, config.get("seed")
    flat = flatten(config)
    keys = sorted(filter(is_seed, flat), key=lambda key: not key.startswith("seeds."))
    return {key: flat[key] for key in keys if flat[key] != sources.get(FOLLOWS.get(key, ""), seed)}


def named_seeds(config: Config) -> dict[str, Any]:
    """Return the seeds that distinguish runs of a condition, by short names: {"seed": 0, "kmeans": 3}."""
    separate = separate_seeds(config).items()
    short = {key.removeprefix("seeds.").replace("data.probe_seed", "probe_seed"): value for key, value in separate}
    trained = TRAINED_WITH.search(str((config.get("model") or {}).get("path")))
    return {"seed": config.get("seed"), **({"model_seed": int(trained[0])} if trained else {}), **short}


def seeds_of(config: Config) -> str:
    """ "0", or "0, kmeans=3" where one of the seeds was set by itself."""
    return ", ".join(f"{key}={value}" for key, value in named_seeds(config).items()).removeprefix("seed=")
