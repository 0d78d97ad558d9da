"""One run, from wherever its folder was left to its conclusion."""

from typing import TYPE_CHECKING, Any

from taskcluster.processes.interrupts import AT_ONCE, PATIENCE, Interrupts

if TYPE_CHECKING:
    from rich.console import Console

    from taskcluster.processes.meeting import Meeting
    from taskcluster.runs.folder import RunFolder


def train(
    config: Any,
    run: "RunFolder",
    interrupts: Interrupts,
    console: "Console",
    of_many: bool = False,
    meeting: "Meeting | None" = None,
) -> None:
    """Train in the run's folder, from wherever it was left, unless it is finished; then say what came of it.

    A run `of_many` names itself; to a `meeting` come the other processes of a launcher. Raises UserError before
    anything is written where the configuration or the folder cannot be used, TrainingDiverged when the loss is lost,
    OSError when the disk fails, Interrupted after a signal.
    """
    patience = PATIENCE if of_many else AT_ONCE  # a worker that ends at once would end those beside it
    with interrupts.deferred(patience):
        from taskcluster.config import build, check
        from taskcluster.runs.resume import find_start, is_finished
        from taskcluster.training.progress import quieten

        quieten()
        check(config)
        finished = is_finished(run, config)
    if finished:
        finished_already(config, run, interrupts, console, of_many)
        return

    with interrupts.deferred(patience):
        from taskcluster.processes.group import together, untouched
        from taskcluster.processes.places import ALONE
        from taskcluster.runs.provenance import changes, surroundings
        from taskcluster.training.experiment import Experiment

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
                        from taskcluster.training import conclude  # only now, as charts and t-SNE take long to load

                    conclude.conclude(run, experiment.data.family)
                    ends.finish()
                    measurement = experiment.clustering.measurement
                    conclude.illustrate(run, experiment.data.family, measurement, experiment.network, console)
                    mirror.conclude()
    if not of_many:
        conclude.show(run, console)


def finished_already(config: Any, run: "RunFolder", interrupts: Interrupts, console: "Console", of_many: bool) -> None:
    """Say so, make what its end could not make, and show what came of it."""
    with interrupts.deferred(AT_ONCE):
        from taskcluster.config import build
        from taskcluster.runs.resume import is_concluded, is_illustrated
        from taskcluster.training import conclude
        from taskcluster.validation import UserError

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
        except UserError as error:  # read-only by now, say
            console.print(str(error), soft_wrap=True)
    if not of_many:
        conclude.show(run, console)


def illustrate_again(config: Any, run: "RunFolder", console: "Console") -> None:
    """Make the noise and the figures of a finished run from its last checkpoint."""
    from taskcluster.config import build
    from taskcluster.runs.checkpoints import load_weights
    from taskcluster.training import conclude
    from taskcluster.training.experiment import prepare

    data, network = prepare(config)
    network.load_state_dict(load_weights(run.checkpoint(config["trainer"]["max_steps"])))
    measurement = build(config, "callbacks.clustering", data=data, run=run).measurement
    conclude.illustrate(run, data.family, measurement, network, console)
