"""Which W&B run a run folder is: one of its own, or the one that the environment names, as a sweep's agent does.

WANDB_RUN_ID is the id, in status.json as in W&B. Under an agent (WANDB_SWEEP_ID) wandb takes it whatever it is told.
"""

import os
from collections.abc import Mapping
from typing import Any

from taskcluster.config import Node
from taskcluster.runs.condition import flatten, matters
from taskcluster.runs.folder import RunFolder
from taskcluster.validation import UserError

RUN_ID, SWEEP_ID, SWEEP_PARAMETERS = "WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH"


class Taken(Exception):
    """The W&B run that the environment names is that of another run folder."""


def given() -> str | None:
    """The id that the environment names, if any. Raises UserError for one that W&B would refuse."""
    chosen = os.environ.get(RUN_ID) or None
    if chosen is None and os.environ.get(SWEEP_ID):
        raise UserError(f"{SWEEP_ID} is set without {RUN_ID}; start the run by `wandb agent`, or unset {SWEEP_ID}")
    if chosen is not None:
        import wandb
        from wandb.errors import UsageError

        try:
            wandb.Settings(run_id=chosen)
        except (UsageError, ValueError) as error:
            raise UserError(f"{RUN_ID}={chosen!r}: {error}; correct it or unset it") from None
    return chosen


def refuse_many(logger: Node) -> None:
    """Raise UserError where a multirun's runs would all be the one that the environment names."""
    names = [name for name in (RUN_ID, SWEEP_ID) if os.environ.get(name)]
    if names and "wandb" in logger.target and logger.arguments.get("mode") != "disabled":
        one = f"{names[0]}={os.environ[names[0]]} names one W&B run"
        raise UserError(f"{one}, and a multirun has one for each of its runs; leave out -m, or unset {names[0]}")


def forget() -> None:
    """Leave the environment without a run, for work on runs that are known by their folders."""
    for name in (RUN_ID, SWEEP_ID, SWEEP_PARAMETERS):
        os.environ.pop(name, None)


def placed(run: RunFolder) -> dict[str, Any]:
    """A run's configuration, in which project and entity are those that W&B has it in, if it has."""
    config, status = run.config(), run.status()
    entity, project, recorded = (*str(status.get("wandb", "")).split("/"), "", "")[:3]
    if recorded != status["id"]:
        return config
    return config | {"logger": config["logger"] | {"entity": entity, "project": project}}


def differing(config: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Keys that matter and that a W&B run's configuration has with another value, outer ones first."""
    own, other = flatten(config), flatten(there)
    keys = (key for key in own.keys() & other.keys() if matters(key) and own[key] != other[key])
    return sorted(keys, key=lambda key: (key.count("."), key))
