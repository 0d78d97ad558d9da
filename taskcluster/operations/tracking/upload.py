"""python -m taskcluster.operations.tracking.upload RUN ...: upload to W&B what it lacks of runs that are not training.

Can be repeated: rows that are there are left as they are.
"""

from pathlib import Path

from rich.console import Console

from taskcluster.config import Node
from taskcluster.operations.command_line.arguments import Parser, refusing
from taskcluster.operations.processes import environment, streams
from taskcluster.operations.tracking.wandb import WandbMirror, hindrance
from taskcluster.runs.folder import RunFolder
from taskcluster.validation import UserError


def upload(run: RunFolder, console: Console) -> None:
    """Upload the runs. Raises UserError for a folder that cannot be uploaded."""
    config, status = run.config(), run.status()
    logger = {**config.get("logger", {}), "mode": "online"}
    reason = hindrance() if "wandb" in logger.get("_target_", "") else "it contains no run with logger=wandb"
    if reason:
        raise UserError(f"it cannot be uploaded: {reason}")
    if recorded := status.get("wandb"):  # a W&B sweep may have chosen another project
        logger["entity"], logger["project"], *_ = recorded.split("/")
    mirror = Node.of(logger, "logger").build(WandbMirror, run=run, config=config, console=console)
    with run.locked(), mirror:
        if status["state"] == "finished":
            mirror.conclude()


if __name__ == "__main__":
    environment.prepare()
    parser = Parser(
        prog="python -m taskcluster.operations.tracking.upload",
        description="Upload to W&B what is missing there, of runs that are not training.",
    )
    parser.add_argument("folders", type=Path, metavar="RUN", nargs="+", help="folder of a run with logger=wandb")
    for folder in parser.parse_args().folders:
        with refusing(str(folder)):
            upload(RunFolder(folder.absolute()), streams.console())
