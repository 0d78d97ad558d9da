"""Write the run folder and its mirrors, from the start to the conclusion; only the first process does so."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

from rich.console import Console

from taskcluster.config import RunConfig
from taskcluster.operations.tracking.mirror import mirror_of
from taskcluster.results.claims import judge
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import finite
from taskcluster.runs.provenance import changes, surroundings
from taskcluster.runs.resume import DRAWN, Start, find_start, is_concluded, is_illustrated, writing
from taskcluster.tasks.family import TaskFamily
from taskcluster.training.experiment import Experiment
from taskcluster.training.loading import LoadedRun, load_run
from taskcluster.training.snapshots import Snapshots
from taskcluster.validation import UserError
from taskcluster.work import doing


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

            def conclude_run() -> None:
                conclude(run, experiment.data.family)
                finish()
                network, measurement = experiment.model.network, experiment.measurement
                loaded = LoadedRun(run, config, experiment.data, network, measurement, experiment.last)
                illustrate(loaded, run, console, experiment.measuring.snapshots)
                mirror.conclude()

            yield experiment.broadcast(start), conclude_run


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
                    illustrate(load_run(run.path), run, console, Snapshots())
                mirror.conclude()
            run.write_status("finished", concluded=True)
    except UserError as error:  # read-only by now, say
        console.print(str(error), soft_wrap=True)


def conclude(run: RunFolder, tasks: TaskFamily) -> None:
    """Write results.json: the verdict on every claim, and the last metrics. Then a run is finished: controls and
    figures may fail, and the same command, rerun, makes those that are missing."""
    for name in DRAWN:  # by the run when it had fewer steps
        if (run.figures / name).is_file():
            (run.figures / name).unlink()
    rows = run.rows()
    claims = [{**asdict(claim), "value": finite(claim.value), "passed": claim.passed} for claim in judge(rows)]
    run.write_results({"claims": claims, "final": rows[-1], "tasks_sha256": tasks.fingerprint()})


def illustrate(loaded: LoadedRun, run: RunFolder, console: Console, snapshots: Snapshots | None = None) -> None:
    """Add the controls of a loaded run to the results in `run`, its folder or that of an analysis, and draw the
    figures, with t-SNE where snapshots are given. A sentence names each one that fails."""
    from taskcluster.training import figures  # imported here, since charts and t-SNE take long to load

    run.figures.mkdir(exist_ok=True)
    parts: dict[str, Callable[[], None]] = {"the controls": lambda: _add_controls(loaded, run)}
    if snapshots is not None:
        parts["t-SNE"] = lambda: figures.write_tsne(loaded, snapshots)
    parts["the figures"] = lambda: figures.draw(run)
    for name, make in parts.items():
        try:
            with doing(f"making {name}"):
                make()
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            console.print(
                f"{name} could not be made ({reason}); the run is finished; rerun the same command to try again",
                soft_wrap=True,
            )


def _add_controls(loaded: LoadedRun, run: RunFolder) -> None:
    controls = {
        key: [[finite(value) for value in layer] for layer in layers]
        for key, layers in loaded.measurement.controls(loaded.network).items()
    }
    run.write_results(run.results() | {"controls": controls})
