"""One run, from the state of its folder to its conclusion."""

from collections.abc import Iterator, Mapping

from rich.console import Console

from taskcluster.config import RunConfig
from taskcluster.processes.group import together, untouched
from taskcluster.processes.interrupts import AT_ONCE, PATIENCE, Interrupts
from taskcluster.processes.meeting import Meeting
from taskcluster.processes.places import ALONE
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.provenance import changes, surroundings
from taskcluster.runs.resume import (
    Start,
    find_start,
    is_concluded,
    is_finished,
    is_illustrated,
    with_recorded_frame,
    writing,
)
from taskcluster.tracking.mirror import mirror_of
from taskcluster.training.experiment import Experiment
from taskcluster.training.loading import LoadedRun, load_run
from taskcluster.training.progress import quieten
from taskcluster.training.series import series
from taskcluster.training.snapshots import Snapshots
from taskcluster.validation import UserError


def train(
    config: RunConfig,
    run: RunFolder,
    interrupts: Interrupts,
    console: Console,
    of_many: bool = False,
    meeting: Meeting | None = None,
) -> None:
    """Train in the run's folder, from wherever it was left, unless it is finished; then say what came of it.

    A run `of_many` names itself; to a `meeting` come the other processes of a launcher. Raises UserError before
    anything is written where the configuration or the folder cannot be used, TrainingDiverged when the loss is lost,
    OSError when the disk fails, Interrupted after a signal.
    """
    patience = PATIENCE if of_many else AT_ONCE  # a worker that ends at once would end those beside it
    quieten()
    config = with_recorded_frame(run, config)
    if is_finished(run, config, series(config)):
        conclude_again(config, run, interrupts, console)
    else:
        train_on(config, run, interrupts, console, patience, run.name if of_many else "", meeting)
    if not of_many:
        with interrupts.deferred(patience):
            from taskcluster.training import conclude
        conclude.show(run, console)


def train_on(
    config: RunConfig,
    run: RunFolder,
    interrupts: Interrupts,
    console: Console,
    patience: float,
    label: str,
    meeting: Meeting | None,
) -> None:
    """Train a run that is not finished, and leave it concluded. label: how it names itself."""
    with untouched():
        with interrupts.deferred(patience):
            experiment = Experiment(config, run, interrupts, meeting.place if meeting else ALONE, console, label)
            config = experiment.config
            mirror = mirror_of(config.logger, config.as_dict(), run, console)
            facts = surroundings(experiment.trainer.strategy.root_device)
        with run.locked():
            start = find_start(run, config, experiment.series)
            if start.checkpoint:
                experiment.refuse(start.checkpoint)
            for note in _notes(run, start, facts, mirror.given_id):
                console.print(note, soft_wrap=True)
            run.start(config.as_dict(), start.step, experiment.measurement.catalogue.values())
            last = max(experiment.series, default=config.trainer.max_steps)
            asked = {"max_steps": last, **({"steps": [*experiment.series]} if experiment.series else {})}
            with writing(run, start.step, mirror.given_id, **asked, **facts) as ends:
                interrupts.before_the_end.append(ends.leave)
                task = {"config": config.as_dict(), "folder": run.path, **start._asdict()}
                with mirror as experiment.trainer.logger:
                    with together(meeting, experiment.trainer, task, interrupts):
                        experiment.fit(start.checkpoint, start.measured)
                    with interrupts.deferred(patience):
                        from taskcluster.training import conclude  # only now, as charts and t-SNE take long to load

                    conclude.conclude(run, experiment.data.family)
                    ends.finish()
                    conclude.illustrate(
                        LoadedRun(run, config, experiment.data, experiment.network, experiment.measurement, last),
                        experiment.measuring.snapshots,
                        console,
                    )
                    mirror.conclude()


def _notes(run: RunFolder, start: Start, facts: Mapping[str, object], given_id: str | None) -> Iterator[str]:
    """What a user is told of how a run begins."""
    yield from start.notes
    if start.step is None:
        return
    starts = run.status().get("starts") or [facts]
    if changed := changes(starts[-1], facts):
        yield changed
    yield f"{run.name} resumes after step {start.step}"
    if given_id not in (None, before := run.status().get("id")):
        yield f"W&B: this run was {before} until now and is {given_id} from now on, with all steps"


def conclude_again(config: RunConfig, run: RunFolder, interrupts: Interrupts, console: Console) -> None:
    """Say that a run has already finished, and make what its end could not make."""
    console.print("This run has already finished.")
    mirror = mirror_of(config.logger, config.as_dict(), run, console)
    if not mirror.given_id and is_concluded(run):
        return
    try:
        with run.locked():
            if mirror.given_id:
                run.write_status("finished", id=mirror.given_id)
            with mirror:
                if not is_illustrated(run):
                    with interrupts.deferred(AT_ONCE):
                        from taskcluster.training import conclude

                    conclude.illustrate(load_run(run.path), Snapshots(), console)
                mirror.conclude()
            run.write_status("finished", concluded=True)
    except UserError as error:  # read-only by now, say
        console.print(str(error), soft_wrap=True)
