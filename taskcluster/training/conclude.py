"""The conclusion of a run: verdict, figures, and what is printed of them.

A run is finished once it is judged. What is made after that, the controls and the figures, may fail without
failing the run: rerunning the same command makes what is missing.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from taskcluster.processes.interrupts import Interrupted
from taskcluster.results.claims import judge
from taskcluster.results.compared import highest_beside
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import finite, fixed, layers_of, number
from taskcluster.runs.records import text
from taskcluster.runs.verdicts import judged, verdict
from taskcluster.tasks.family import TaskFamily
from taskcluster.training import figures
from taskcluster.training.loading import LoadedRun
from taskcluster.training.snapshots import Snapshots
from taskcluster.views import shown

STYLES = {True: "green", False: "red", None: ""}


def conclude(run: RunFolder, tasks: TaskFamily) -> None:
    """Write results.json: the verdict on every claim, and the last metrics."""
    figures.forget(run)
    rows = run.rows()
    claims = [{**asdict(claim), "value": finite(claim.value), "passed": claim.passed} for claim in judge(rows)]
    run.write_results({"claims": claims, "final": rows[-1], "tasks_sha256": tasks.fingerprint()})


def illustrate(loaded: LoadedRun, snapshots: Snapshots, console: Console) -> None:
    """Add the controls to results.json and draw the figures, which is what `resume.is_illustrated` looks for. What
    cannot be made is named in a sentence.
    """
    tsne = {"t-SNE": lambda: figures.write_tsne(loaded, snapshots)}
    _make(loaded, console, loaded.run, tsne)


def illustrate_analysis(loaded: LoadedRun, target: RunFolder, console: Console) -> None:
    """The same for an analysis in `target` of the run at its step, without t-SNE."""
    _make(loaded, console, target, {})


def _make(loaded: LoadedRun, console: Console, run: RunFolder, more: Mapping[str, Callable[[], None]]) -> None:
    made: dict[str, Callable[[], None]] = {
        "the controls": lambda: _add_controls(loaded, run),
        **more,
        "the figures": lambda: figures.draw(run),
    }
    with console.status("measuring controls, drawing figures"):
        for name, make in made.items():
            try:
                run.figures.mkdir(exist_ok=True)
                make()
            except (Interrupted, KeyboardInterrupt, SystemExit):
                raise
            except (
                BaseException
            ) as error:  # a panic of a library in Rust is not an Exception; the run is trained and judged
                reason = " ".join(str(error).split()) or type(error).__name__
                said = f"{name} could not be made ({reason}); the run is finished; rerun the same command to try again"
                console.print(said, soft_wrap=True)


def show(run: RunFolder, console: Console) -> None:
    """Print the verdict on every claim if any is decided, the last metrics, and where everything is."""
    results = run.results()
    table = Table("claim", "paper", "here", "threshold", "verdict", title="The paper's claims", title_justify="left")
    for claim in judged(results):
        threshold, said = f"{claim['relation']} {claim['threshold']}", Text(verdict(claim), STYLES[claim["passed"]])
        table.add_row(claim["name"], claim["paper"], fixed(claim["value"]), threshold, said)
    if table.row_count:
        console.print(table)
    final, known = results["final"], run.catalogue()
    for metric in shown(known, "runs", by_layer=False):
        value = fixed(number(final, metric.stem("val")))
        console.print(f"validation {metric.title} {value} at step {final.get('step')}")
    for metric in shown(known, "runs", by_layer=True):
        layers = " ".join(fixed(value, 2) for value in layers_of(final, metric.stem("val")))
        console.print(f"{metric.title}, validation, layers 0 to L: {layers}", soft_wrap=True)
        if line := highest_beside(final, known, metric):
            console.print(line, soft_wrap=True)
    console.print(f"Everything is in {text(str(run.path))} (open figures/index.html)", soft_wrap=True)


def _add_controls(loaded: LoadedRun, run: RunFolder) -> None:
    repeated = loaded.measurement.controls(loaded.network)
    controls = {key: [[finite(value) for value in of_layer] for of_layer in layers] for key, layers in repeated.items()}
    results = run.results()
    tasks = {"tasks_sha256": results.pop("tasks_sha256")}
    run.write_results({**results, "controls": controls, **tasks})
