"""What came of a run: judged, drawn, and shown to whoever waits for it."""

from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel

from taskcluster import figures
from taskcluster.claims import judge
from taskcluster.journal import finite, layers_of, number
from taskcluster.measurement import Measurement
from taskcluster.noise import noise
from taskcluster.records import text
from taskcluster.runs import RunFolder
from taskcluster.tasks import TaskFamily


def conclude(
    run: RunFolder, tasks: TaskFamily, measurement: Measurement, network: PreTrainedModel, console: Console
) -> None:
    """Write results.json and the figures."""
    rows = run.rows()
    claims = [{**asdict(claim), "value": finite(claim.value), "passed": claim.passed} for claim in judge(rows)]
    with console.status("measuring noise, drawing figures"):
        moved = {
            source: {key: [finite(value) for value in values] for key, values in scores.items()}
            for source, scores in noise(measurement, network).items()
        }
        fingerprint = tasks.fingerprint()
        run.write_results({"claims": claims, "final": rows[-1], "noise": moved, "tasks_sha256": fingerprint})
        figures.draw(run, len(tasks.tasks), measurement, network)


def show(run: RunFolder, console: Console) -> None:
    """Print the verdict on every claim, and where everything lies."""
    results = run.results()
    table = Table("claim", "paper", "here", "threshold", "verdict", title="The paper's claims", title_justify="left")
    for claim in results["claims"]:
        value = "not a number" if claim["value"] is None else f"{claim['value']:.3f}"
        verdict = "[green]pass[/]" if claim["passed"] else "[red]FAIL[/]"
        table.add_row(claim["name"], claim["paper"], value, f"{claim['relation']} {claim['threshold']}", verdict)
    console.print(table)
    final = results["final"]
    accuracy = number(final, "val/accuracy")
    console.print(f"validation accuracy {accuracy:.3f} at step {final.get('step')}", highlight=False)
    for metric, label in (("ari", "ARI at the separator"), ("ari_within_x", "ARI within each x")):
        layers = " ".join(f"{value:.2f}" for value in layers_of(final, f"{metric}/val"))
        console.print(f"{label}, validation, layers 0 to L: {layers}", highlight=False, soft_wrap=True)
    where = f"Everything lies in {text(str(run.path))} (open figures/index.html)"
    console.print(where, soft_wrap=True, highlight=False, markup=False)
