"""The command that gives a run's configuration: for a model card, where nobody sees the run folder.

in:  a run's resolved configuration
out: `taskcluster-train name=... seed=... KEY=VALUE ...`, as a shell reads it

Options and keys of a user's own, which --config-dir finds, are given as keys with values.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from taskcluster.operations.command_line.arguments import quoted
from taskcluster.operations.command_line.cli import composed
from taskcluster.runs.condition import Config, differing_keys, flatten, separate_seeds
from taskcluster.runs.options import CONF, option, options


def command(config: Config) -> str:
    words = [f"seed={config['seed']}", *(f"{key}={value}" for key, value in separate_seeds(config).items())]
    for group in [key for key in config if (CONF / key).is_dir()]:
        if not any(key.startswith(f"{group}.") for key in _departures(words, config)):
            continue
        target = config[group].get("_target_")
        alike = [name for name in options(group) if option(group, name).get("_target_", target) == target]
        choices = [",".join(config[group])] if group in ("measures", "callbacks") else alike
        tried = [words, *([*words, f"{group}={f'[{choice}]' if ',' in choice else choice}"] for choice in choices)]
        words = min(tried, key=lambda words: len(_departures(words, config)))
    flat, there = flatten(config), flatten(composed(*words))
    for key in _departures(words, config):
        words.append(f"{'' if key in there else '++'}{key}={_written(flat[key])}" if key in flat else f"~{key}")
    return shlex.join(["taskcluster-train", f"name={config['name']}", *words])


def _departures(words: list[str], config: Config) -> list[str]:
    """The keys in which a command's configuration differs; all of them for one that cannot be composed."""
    try:
        return differing_keys(composed(*words), config)
    except (HydraException, OmegaConfBaseException):
        return [*flatten(config)]


def _written(value: Any) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_written(key)}:{_written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, str):
        return value if value.isidentifier() else quoted(value)
    return json.dumps(value)
