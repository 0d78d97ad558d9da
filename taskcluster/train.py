"""taskcluster-train: compose the configuration, train or go on training, judge, draw."""

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from taskcluster import cli, terminal
from taskcluster.interrupts import AT_ONCE, PATIENCE, Interrupted, Interrupts

if TYPE_CHECKING:
    from rich.console import Console

    from taskcluster.meeting import Meeting
    from taskcluster.places import Place
    from taskcluster.runs import RunFolder

OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}


def main() -> None:
    cli.run(job)


def job(cfg: DictConfig) -> None:
    """One run in the folder that Hydra chose. Imports what trains only here, so that --help is quick."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    of_many, given = hydra.mode is RunMode.MULTIRUN, [word.lstrip("+") for word in hydra.overrides.hydra]
    if not of_many and any(word.startswith("hydra.sweep.") for word in given):
        raise cli.Reported(2, "hydra.sweep.dir and hydra.sweep.subdir are for multiruns; add -m, or use hydra.run.dir=")
    folder = Path(hydra.runtime.output_dir)
    config = OmegaConf.to_container(cfg, resolve=True)
    place = _place(of_many, str(hydra.launcher.get("_target_")))

    def report_end(reason: BaseException) -> None:
        said = f"interrupted by {reason}" if isinstance(reason, Interrupted) else str(reason)
        if place.rank == 0 or not isinstance(reason, Interrupted):
            cli.report(f"{said}; the same command goes on from what {folder} holds")

    try:
        with Interrupts() as interrupts:
            interrupts.before_the_end.append(report_end)
            if place.rank:
                follow_or_report(folder, interrupts, place)
            elif place.launcher:
                with interrupts.deferred(AT_ONCE):
                    from taskcluster.meeting import opened

                with opened(place, folder) as meeting:
                    run_or_report(config, folder, interrupts, of_many, meeting)
            else:
                run_or_report(config, folder, interrupts, of_many)
    except Interrupted as signal:
        report_end(signal)
        raise


def _place(of_many: bool, launcher: str) -> "Place":
    """This process's among those of the run. A job of a multirun has other processes only where Slurm started them."""
    from taskcluster import places

    try:
        if not of_many:
            return places.place()
        return places.of_srun() if launcher.endswith("SlurmLauncher") else places.ALONE
    except ValueError as error:
        raise cli.Reported(2, str(error)) from error


def follow_or_report(folder: Path, interrupts: Interrupts, place: "Place") -> None:
    """Train along with process 0, which may be on another machine."""
    from taskcluster.companion import follow

    try:
        code = follow(place, folder, interrupts)
    except ConnectionError as error:
        raise cli.Reported(1, str(error)) from error
    if code:
        raise cli.Reported(code, "")


def run_or_report(
    config: Any, folder: Path, interrupts: Interrupts, of_many: bool, meeting: "Meeting | None" = None
) -> None:
    """Train, and say in one sentence what stood in the way."""
    with interrupts.deferred(PATIENCE if of_many else AT_ONCE):
        from taskcluster.experiment import TrainingStopped
        from taskcluster.model import TrainingDiverged
        from taskcluster.runs import RunFolder
        from taskcluster.validation import ConfigError

    console = terminal.console(plain=of_many)
    try:
        train(config, RunFolder(folder), interrupts, console, of_many, meeting)
    except ConfigError as error:
        raise cli.Reported(2, str(error)) from error
    except TrainingDiverged as error:
        said = f"{error}; lower optimizer.lr. The journal and the checkpoints so far are in {folder}"
        raise cli.Reported(1, said) from error
    except (ChildProcessError, TrainingStopped) as error:
        raise cli.Reported(1, f"{error}; the same command goes on from what {folder} holds") from error
    except OSError as error:
        of_the_folder = str(error.filename).startswith(f"{folder}{os.sep}")  # which others may have changed meanwhile
        if error.errno not in OF_THE_DISK and not of_the_folder:
            raise
        whole = "what was saved is whole, and the same command goes on from it"
        raise cli.Reported(1, f"{error.filename or folder}: {error.strerror}; {whole}") from error


def train(
    config: Any,
    run: "RunFolder",
    interrupts: Interrupts,
    console: "Console",
    of_many: bool = False,
    meeting: "Meeting | None" = None,
) -> None:
    """Train in the run's folder, from wherever it was left, unless it is finished; then say what came of it.

    A run `of_many` names itself; to a `meeting` come the other processes of a launcher. Raises ConfigError before
    anything is written where the configuration or the folder cannot be used, TrainingDiverged when the loss is lost,
    OSError when the disk fails, Interrupted after a signal.
    """
    patience = PATIENCE if of_many else AT_ONCE  # a worker that ends at once would end those beside it
    with interrupts.deferred(patience):
        from taskcluster.config import build, check
        from taskcluster.progress import quieten
        from taskcluster.resume import find_start, is_finished

        quieten()
        check(config)
        finished = is_finished(run, config)
    if finished:
        finished_already(config, run, interrupts, console, of_many)
        return

    with interrupts.deferred(patience):
        from taskcluster.experiment import Experiment
        from taskcluster.places import ALONE
        from taskcluster.processes import together, untouched
        from taskcluster.provenance import changes, surroundings

    with untouched():
        with interrupts.deferred(patience):
            place = meeting.place if meeting else ALONE
            experiment = Experiment(config, run, interrupts, place, console, run.name if of_many else "")
            trainer, mirror = experiment.trainer, build(config, "logger", run=run, config=config, console=console)
            facts = surroundings(trainer.strategy.root_device)
        with run.locked():
            start = find_start(run, config)
            if start.checkpoint:
                experiment.refuse(start.checkpoint)
            notes = list(start.notes)
            if start.step is not None:
                starts = run.status().get("starts") or [facts]
                notes += [changes(starts[-1], facts), f"{run.name} goes on after step {start.step}"]
                if mirror.given_id not in (None, before := run.status().get("id")):
                    notes.append(f"W&B: its run was {before} so far, and is {mirror.given_id} now, with all steps")
            for note in filter(None, notes):
                console.print(note, soft_wrap=True)
            run.start(config, start.step)
            with run.writing(start.step, mirror.given_id, max_steps=trainer.max_steps, **facts) as ends:
                interrupts.before_the_end.append(ends.leave)
                task = {"config": config, "folder": run.path, **start._asdict()}
                with mirror as trainer.logger:
                    with together(meeting, trainer, task, interrupts):
                        experiment.fit(start.checkpoint, start.measured)
                    with interrupts.deferred(patience):
                        from taskcluster import outcome  # only now, as charts and t-SNE take long to load

                    outcome.conclude(run, experiment.data.family)
                    ends.finish()
                    measurement = experiment.clustering.measurement
                    outcome.illustrate(run, experiment.data.family, measurement, experiment.network, console)
                    mirror.conclude()
    if not of_many:
        outcome.show(run, console)


def finished_already(config: Any, run: "RunFolder", interrupts: Interrupts, console: "Console", of_many: bool) -> None:
    """Say so, make what its end could not make, and show what came of it."""
    with interrupts.deferred(AT_ONCE):
        from taskcluster import outcome
        from taskcluster.config import build
        from taskcluster.resume import is_concluded, is_illustrated
        from taskcluster.validation import ConfigError

    console.print("This run is finished already.")
    mirror = build(config, "logger", run=run, config=config, console=console)
    if mirror.given_id or not is_concluded(run):
        try:
            with run.locked():
                if mirror.given_id:
                    run.write_status("finished", id=mirror.given_id)
                with mirror:
                    if not is_illustrated(run):
                        illustrate_again(config, run, console)
                    mirror.conclude()
                run.write_status("finished", concluded=True)
        except ConfigError as error:  # read-only by now, say
            console.print(str(error), soft_wrap=True)
    if not of_many:
        outcome.show(run, console)


def illustrate_again(config: Any, run: "RunFolder", console: "Console") -> None:
    """Make the noise and the figures of a finished run from its last checkpoint."""
    from taskcluster import outcome
    from taskcluster.checkpoints import load_weights
    from taskcluster.config import build
    from taskcluster.experiment import prepare

    data, network = prepare(config)
    network.load_state_dict(load_weights(run.checkpoint(config["trainer"]["max_steps"])))
    measurement = build(config, "callbacks.clustering", data=data, run=run).measurement
    outcome.illustrate(run, data.family, measurement, network, console)


if __name__ == "__main__":
    main()
