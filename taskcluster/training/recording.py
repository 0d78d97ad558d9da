"""Write the run folder and its mirrors, from the start to the conclusion; only the first process does so."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console

from taskcluster.config import RunConfig
from taskcluster.operations.tracking.mirror import mirror_of
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.provenance import changes, surroundings
from taskcluster.runs.resume import Start, find_start, is_concluded, is_illustrated, writing
from taskcluster.training.experiment import Experiment
from taskcluster.training.loading import LoadedRun, load_run
from taskcluster.training.snapshots import Snapshots
from taskcluster.validation import UserError


@contextmanager
def recorded(experiment: Experiment, console: Console) -> Iterator[tuple[Start, Callable[[], None]]]:
    """A context in which a run trains: its folder has the start and, however the context is left, the end. Yields where
    training begins, and a function that judges the run once it is trained and draws its figures.

    Raises UserError before anything is written where the folder cannot be used.
    """
    if not experiment.is_first:
        yield experiment.broadcast(Start()), lambda: None
        return
    run, config, trainer = experiment.run, experiment.config, experiment.trainer
    mirror = mirror_of(config.logger, config.as_dict(), run, console)
    facts = surroundings(trainer.strategy.root_device) | {"max_steps": experiment.last}
    if experiment.series:
        facts["steps"] = [*experiment.series]
    with run.locked():
        start = find_start(run, config, experiment.series)
        if start.checkpoint:
            experiment.refuse(start.checkpoint)
        for note in _notes(run, start, facts, mirror.given_id):
            console.print(note, soft_wrap=True)
        run.start(config.as_dict(), start.step, experiment.measurement.catalogue.values())
        with writing(run, start.step, mirror.given_id, **facts) as finish, mirror as trainer.logger:

            def conclude() -> None:
                from taskcluster.training import conclude  # imported here, since charts and t-SNE take long to load

                conclude.conclude(run, experiment.data.family)
                finish()
                network, measurement = experiment.model.network, experiment.measurement
                loaded = LoadedRun(run, config, experiment.data, network, measurement, experiment.last)
                conclude.illustrate(loaded, run, console, experiment.measuring.snapshots)
                mirror.conclude()

            yield experiment.broadcast(start), conclude


def _notes(run: RunFolder, start: Start, facts: Mapping[str, object], given_id: str | None) -> list[str]:
    """Return sentences about the start of a run."""
    if start.step is None:
        return [*start.notes]
    status = run.status()
    notes = [
        *start.notes,
        changes((status.get("starts") or [facts])[-1], facts),
        f"{run.name} resumes after step {start.step}",
    ]
    if given_id not in (None, before := status.get("id")):
        notes.append(f"W&B: this run was {before} until now and is {given_id} from now on, with all steps")
    return [note for note in notes if note]


def conclude_again(config: RunConfig, run: RunFolder, console: Console) -> None:
    """Report that a run has already finished, and make missing controls and figures."""
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
                    from taskcluster.training import conclude

                    conclude.illustrate(load_run(run.path), run, console, Snapshots())
                mirror.conclude()
            run.write_status("finished", concluded=True)
    except UserError as error:  # read-only by now, say
        console.print(str(error), soft_wrap=True)
