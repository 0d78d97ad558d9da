"""What came of a run: judged, drawn, and shown to whoever waits for it.

A run is finished once it is judged. What is made after that, the noise of the ARI and the figures, may fail without
failing the run: the same command makes what is missing.
"""

from collections.abc import Callable
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedModel

from taskcluster.measures.controls import noise
from taskcluster.measures.measurement import Measurement
from taskcluster.processes.interrupts import Interrupted
from taskcluster.results.claims import judge
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import finite, fixed, layers_of, number
from taskcluster.runs.records import text
from taskcluster.tasks.family import TaskFamily
from taskcluster.training import figures

VERDICTS = {True: Text("pass", style="green"), False: Text("FAIL", style="red"), None: Text("-")}


def conclude(run: RunFolder, tasks: TaskFamily) -> None:
    """Write results.json: the verdict on every claim, and the last metrics."""
    figures.forget(run)
    rows = run.rows()
    claims = [{**asdict(claim), "value": finite(claim.value), "passed": claim.passed} for claim in judge(rows)]
    run.write_results({"claims": claims, "final": rows[-1], "tasks_sha256": tasks.fingerprint()})


def illustrate(
    run: RunFolder, tasks: TaskFamily, measurement: Measurement, network: PreTrainedModel, console: Console
) -> None:
    """Add the noise to results.json and draw the figures, which is what `resume.is_illustrated` looks for. What cannot
    be made is named in a sentence.
    """
    made: dict[str, Callable[[], None]] = {
        "the noise of the ARI": lambda: _add_noise(run, measurement, network),
        "t-SNE": lambda: figures.write_tsne(run, len(tasks.tasks), measurement, network),
        "the figures": lambda: figures.draw(run),
    }
    with console.status("measuring noise, drawing figures"):
        for name, make in made.items():
            try:
                run.figures.mkdir(exist_ok=True)
                make()
            except (Interrupted, KeyboardInterrupt, SystemExit):
                raise
            except (
                BaseException
            ) as error:  # a panic of a library in Rust is no Exception; the run is trained and judged
                reason = " ".join(str(error).split()) or type(error).__name__
                said = f"{name} could not be made ({reason}); the run is finished, and the same command tries again"
                console.print(said, soft_wrap=True)


def show(run: RunFolder, console: Console) -> None:
    """Print the verdict on every claim, and where everything is."""
    results = run.results()
    table = Table("claim", "paper", "here", "threshold", "verdict", title="The paper's claims", title_justify="left")
    for claim in results["claims"]:
        threshold = f"{claim['relation']} {claim['threshold']}"
        table.add_row(claim["name"], claim["paper"], fixed(claim["value"]), threshold, VERDICTS[claim["passed"]])
    console.print(table)
    final = results["final"]
    accuracy = fixed(number(final, "val/accuracy"))
    console.print(f"validation accuracy {accuracy} at step {final.get('step')}")
    for metric, label in (("ari", "ARI at the separator"), ("ari_within_x", "ARI within each x")):
        layers = " ".join(fixed(value, 2) for value in layers_of(final, f"{metric}/val"))
        console.print(f"{label}, validation, layers 0 to L: {layers}", soft_wrap=True)
    console.print(f"Everything is in {text(str(run.path))} (open figures/index.html)", soft_wrap=True)


def _add_noise(run: RunFolder, measurement: Measurement, network: PreTrainedModel) -> None:
    moved = {
        source: {key: [finite(value) for value in values] for key, values in scores.items()}
        for source, scores in noise(measurement, network).items()
    }
    results = run.results()
    tasks = {"tasks_sha256": results.pop("tasks_sha256")}
    run.write_results({**results, "noise": moved, **tasks})
