"""python -m taskcluster.tracking.upload RUN ...: upload to W&B what it lacks of runs that are not training.

Can be repeated: what is there is left as it is.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from taskcluster import environment, streams
from taskcluster.arguments import Parser, say
from taskcluster.config import Node
from taskcluster.runs.folder import RunFolder
from taskcluster.tracking import identity
from taskcluster.tracking.mirror import mirror_of
from taskcluster.tracking.wandb import WandbMirror
from taskcluster.validation import UserError


def upload(folders: Sequence[Path], console: Console) -> int:
    """The exit code: 0, or 2 for a folder that cannot be uploaded, said in one sentence."""
    identity.forget()
    exit_code = 0
    for folder in folders:
        run = RunFolder(folder.absolute())
        try:
            if not run.status().get("id") or "logger" not in run.config():
                raise UserError("it holds no run")
            config = identity.placed(run)
            mirror = mirror_of(Node.of(config["logger"], "logger"), config, run, console)
            if not isinstance(mirror, WandbMirror):
                raise UserError("it was made without logger=wandb")
            with run.locked():
                mirror.upload()
        except UserError as error:
            say(str(folder), str(error))
            exit_code = 2
    return exit_code


if __name__ == "__main__":
    environment.prepare()
    parser = Parser(
        prog="python -m taskcluster.tracking.upload",
        description="Upload to W&B what it lacks of runs that are not training.",
    )
    parser.add_argument("folders", type=Path, metavar="RUN", nargs="+", help="folder of a run with logger=wandb")
    sys.exit(upload(parser.parse_args().folders, streams.console()))
