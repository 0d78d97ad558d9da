"""taskcluster-train: compose the configuration, train or go on training, judge, draw."""

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from taskcluster import cli
from taskcluster.interrupts import Interrupted, Interrupts

if TYPE_CHECKING:
    from rich.console import Console

    from taskcluster.runs import RunFolder

OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}


def main() -> None:
    cli.run(job)


def job(cfg: DictConfig) -> None:
    """One run in the folder that Hydra chose. Imports what trains only here, so that --help is quick."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    own = HydraConfig.get()
    given: Any = OmegaConf.to_container(own.overrides.hydra)
    if own.mode is RunMode.RUN and any(word.lstrip("+").startswith("hydra.sweep.") for word in given):
        raise cli.Reported(2, "hydra.sweep.dir and hydra.sweep.subdir are for a multirun; add -m, or write hydra.run.dir=")
    folder = Path(own.runtime.output_dir)
    config = OmegaConf.to_container(cfg, resolve=True)
    try:
        with Interrupts() as interrupts:
            run_or_report(config, folder, interrupts, of_many=own.mode is RunMode.MULTIRUN)
    except Interrupted as signal:
        cli.report(f"interrupted by {signal}; the same command goes on from what {folder} holds")
        raise


def run_or_report(config: Any, folder: Path, interrupts: Interrupts, of_many: bool) -> None:
    """Train, and say in one sentence what stood in the way."""
    from rich.console import Console

    from taskcluster.model import TrainingDiverged
    from taskcluster.runs import RunFolder
    from taskcluster.validation import ConfigError

    console = Console(force_terminal=False if of_many else None)
    try:
        train(config, RunFolder(folder), interrupts, console, of_many)
    except ConfigError as error:
        raise cli.Reported(2, str(error)) from error
    except TrainingDiverged as error:
        said = f"{error}; lower optimizer.lr. The journal and the checkpoints so far are in {folder}"
        raise cli.Reported(1, said) from error
    except ChildProcessError as error:
        raise cli.Reported(1, f"{error}; the same command goes on from what {folder} holds") from error
    except OSError as error:
        if error.errno not in OF_THE_DISK:
            raise
        whole = "what was saved is whole, and the same command goes on from it"
        raise cli.Reported(1, f"{error.filename or folder}: {error.strerror}; {whole}") from error


def train(config: Any, run: "RunFolder", interrupts: Interrupts, console: "Console", of_many: bool = False) -> None:
    """Train in the run's folder, from wherever it was left, unless it is finished; then say what came of it.

    A run `of_many` names itself. Raises ConfigError before anything is written where the configuration or the folder
    cannot be used, TrainingDiverged when the loss is lost, OSError when the disk fails, Interrupted after a signal.
    """
    from taskcluster.config import build, check
    from taskcluster.progress import quieten
    from taskcluster.resume import find_start, is_finished

    quieten()
    check(config)
    if is_finished(run, config):
        from taskcluster.outcome import show

        console.print("This run is finished already.")
        show(run, console)
        return

    from taskcluster.experiment import Experiment
    from taskcluster.processes import companions, untouched
    from taskcluster.provenance import changes, surroundings

    with untouched():
        experiment = Experiment(config, run, interrupts, console, run.name if of_many else "")
        trainer, mirror = experiment.trainer, build(config, "logger", run=run, config=config, console=console)
        facts = surroundings(trainer.strategy.root_device)
        with run.locked():
            start = find_start(run, config)
            if start.checkpoint:
                experiment.refuse(start.checkpoint)
            notes = list(start.notes)
            if start.step is not None:
                notes += [changes(run.status()["starts"][-1], facts), f"{run.name} goes on after step {start.step}"]
            for note in filter(None, notes):
                console.print(note, soft_wrap=True, highlight=False)
            run.start(config, start.step)
            with run.writing(start.step, max_steps=trainer.max_steps, **facts):
                task = {"config": config, "folder": run.path, **start._asdict()}
                with mirror as trainer.logger:
                    with companions(trainer.world_size, experiment.environment, task):
                        experiment.fit(start.checkpoint, start.measured)
                    from taskcluster.outcome import conclude, show  # only now, as charts and t-SNE take long to load

                    conclude(
                        run, experiment.data.family, experiment.clustering.measurement, experiment.network, console
                    )
                    mirror.conclude()
    if not of_many:
        show(run, console)


if __name__ == "__main__":
    main()
