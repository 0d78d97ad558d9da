"""taskcluster-train: compose the configuration, train or resume training, judge, draw."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from taskcluster import cli, imports, streams
from taskcluster.arguments import say
from taskcluster.processes.interrupts import AT_ONCE, PATIENCE, Interrupted, Interrupts

if TYPE_CHECKING:
    from taskcluster.processes.meeting import Meeting
    from taskcluster.processes.places import Place

OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}


def main() -> None:
    cli.run(job)


def job(cfg: DictConfig) -> None:
    """One run in the folder that Hydra chose. Imports what trains only here, so that --help is quick."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    imports.find_own()
    hydra = HydraConfig.get()
    of_many, given = hydra.mode is RunMode.MULTIRUN, [word.lstrip("+") for word in hydra.overrides.hydra]
    if not of_many and any(word.startswith("hydra.sweep.") for word in given):
        raise cli.Reported(2, "hydra.sweep.dir and hydra.sweep.subdir are for multiruns; add -m, or use hydra.run.dir=")
    folder = Path(hydra.runtime.output_dir)
    config = cli.job_config(cfg)
    place = _place(of_many, str(hydra.launcher.get("_target_")))

    def report_end(reason: BaseException) -> None:
        said = f"interrupted by {reason}" if isinstance(reason, Interrupted) else str(reason)
        if place.rank == 0 or not isinstance(reason, Interrupted):
            say(cli.TRAIN, f"{said}; rerun the same command to resume from {folder}")

    try:
        with Interrupts() as interrupts:
            interrupts.before_the_end.append(report_end)
            if place.rank:
                follow_or_report(folder, interrupts, place)
            elif place.launcher:
                with interrupts.deferred(AT_ONCE):
                    from taskcluster.processes.leading import opened

                with opened(place, folder) as meeting:
                    run_or_report(config, folder, interrupts, of_many, meeting)
            else:
                run_or_report(config, folder, interrupts, of_many)
    except Interrupted as signal:
        report_end(signal)
        raise


def _place(of_many: bool, launcher: str) -> "Place":
    """This process's among those of the run. A job of a multirun has other processes only where Slurm started them."""
    from taskcluster.processes import places

    try:
        if not of_many:
            return places.place()
        return places.of_srun() if launcher.endswith("SlurmLauncher") else places.ALONE
    except ValueError as error:
        raise cli.Reported(2, str(error)) from error


def follow_or_report(folder: Path, interrupts: Interrupts, place: "Place") -> None:
    """Train along with process 0, which may be on another machine."""
    from taskcluster.training.worker import follow

    try:
        code = follow(place, folder, interrupts)
    except ConnectionError as error:
        raise cli.Reported(1, str(error)) from error
    if code:
        raise cli.Reported(code, "")


def run_or_report(
    composed: Mapping[str, object],
    folder: Path,
    interrupts: Interrupts,
    of_many: bool,
    meeting: "Meeting | None" = None,
) -> None:
    """Train, and say in one sentence what stood in the way."""
    with interrupts.deferred(PATIENCE if of_many else AT_ONCE), imports.large():
        from taskcluster.config import RunConfig
        from taskcluster.measures.measure import MeasureFailed
        from taskcluster.models.training_module import TrainingDiverged
        from taskcluster.runs.folder import RunFolder
        from taskcluster.training.experiment import TrainingStopped
        from taskcluster.training.run import train
        from taskcluster.validation import UserError

    console = streams.console(plain=of_many)
    try:
        train(RunConfig.of(composed), RunFolder(folder), interrupts, console, of_many, meeting)
    except UserError as error:
        raise cli.Reported(2, str(error)) from error
    except TrainingDiverged as error:
        said = f"{error}; lower optimizer.lr. The journal and the checkpoints so far are in {folder}"
        raise cli.Reported(1, said) from error
    except (ChildProcessError, TrainingStopped, MeasureFailed) as error:
        raise cli.Reported(1, f"{error}; rerun the same command to resume from {folder}") from error
    except OSError as error:
        of_the_folder = str(error.filename).startswith(f"{folder}{os.sep}")  # which others may have changed meanwhile
        if error.errno not in OF_THE_DISK and not of_the_folder:
            raise
        whole = "the files saved so far are intact; rerun the same command to resume"
        raise cli.Reported(1, f"{error.filename or folder}: {error.strerror}; {whole}") from error


if __name__ == "__main__":
    main()
