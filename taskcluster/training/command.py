"""The command that made a run, from its configuration: for a model card, where nobody sees the run folder.

in:  a run's resolved configuration
out: `taskcluster-train name=... seed=... KEY=VALUE ...`, as a shell reads it

It names where the run departs from the configuration that comes with the package, as the folder's name does. Options of
a user's own come without the --config-dir that they are in.
"""

import json
import shlex
from collections.abc import Iterator
from typing import Any

from taskcluster.arguments import quoted
from taskcluster.runs.condition import Config, departures, own_seeds


def command(config: Config) -> str:
    return shlex.join(["taskcluster-train", *_words(config)])


def _words(config: Config) -> Iterator[str]:
    yield f"name={config.get('name')}"
    yield f"seed={config.get('seed')}"
    for key, value in own_seeds(config).items():
        yield f"{_seed_key(config, key)}={value}"
    departed = departures(config)
    of_groups = {group for key in departed for group in ("measures", "callbacks") if key.startswith(f"{group}.")}
    chosen = {
        group for group in of_groups for key, value in departed.items() if key.startswith(group) and value in ("+", ...)
    }
    for group in sorted(chosen):
        yield f"{group}=[{','.join(config[group])}]"
    for key, value in departed.items():
        if value not in ("+", ...):
            yield f"{key}={_written(value)}"
        elif key.partition(".")[0] not in chosen:
            yield f"~{key}"


def _seed_key(config: Config, key: str) -> str:
    if key in (config.get("seeds") or {}):
        return f"seeds.{key}"
    return "data.probe_seed" if key == "probe_seed" else key


def _written(value: Any) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_written(key)}:{_written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return quoted(value) if isinstance(value, str) and not value.isidentifier() else _plain(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
