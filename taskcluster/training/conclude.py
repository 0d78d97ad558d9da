"""The conclusion of a run: verdict and figures.

A run is finished once it is judged. Controls and figures are made afterwards and may fail without failing the run: the
same command, rerun, makes those that are missing.
"""

from collections.abc import Callable
from dataclasses import asdict

from rich.console import Console

from taskcluster.results.claims import judge
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import finite
from taskcluster.runs.resume import DRAWN
from taskcluster.tasks.family import TaskFamily
from taskcluster.training import figures
from taskcluster.training.loading import LoadedRun
from taskcluster.training.snapshots import Snapshots
from taskcluster.work import doing


def conclude(run: RunFolder, tasks: TaskFamily) -> None:
    """Write results.json: the verdict on every claim, and the last metrics."""
    for name in DRAWN:  # by the run when it had fewer steps
        if (run.figures / name).is_file():
            (run.figures / name).unlink()
    rows = run.rows()
    claims = [{**asdict(claim), "value": finite(claim.value), "passed": claim.passed} for claim in judge(rows)]
    run.write_results({"claims": claims, "final": rows[-1], "tasks_sha256": tasks.fingerprint()})


def illustrate(loaded: LoadedRun, run: RunFolder, console: Console, snapshots: Snapshots | None = None) -> None:
    """Add the controls of a loaded run to the results in `run`, its folder or that of an analysis, and draw the
    figures, with t-SNE where snapshots are given. A sentence names each one that fails."""
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
