"""The id of a W&B run that the environment gives, as a sweep's agent does. Free of wandb."""

import os

from taskcluster.config import Node
from taskcluster.validation import UserError


def given_id() -> str | None:
    return os.environ.get("WANDB_RUN_ID") or None


def refuse_many(logger: Node) -> None:
    """Raise UserError where the runs of a multirun would all be the one that the environment names."""
    if given_id() and "wandb" in logger.target and logger.arguments.get("mode") != "disabled":
        raise UserError(
            f"WANDB_RUN_ID={given_id()} names one W&B run, and a multirun has one for each of its runs; leave out -m, "
            "or unset WANDB_RUN_ID"
        )
