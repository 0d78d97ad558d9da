"""What came of a run: judged, drawn, and shown to whoever waits for it."""

from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedModel

from taskcluster import figures
from taskcluster.claims import judge
from taskcluster.journal import finite
from taskcluster.measurement import Measurement
from taskcluster.noise import noise
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
        verdict = Text("pass", style="green") if claim["passed"] else Text("FAIL", style="red")
        table.add_row(claim["name"], claim["paper"], value, f"{claim['relation']} {claim['threshold']}", verdict)
    console.print(table)
    final = results["final"]
    console.print(f"validation accuracy {final['val/accuracy']:.3f} at step {final['step']}")
    for metric, label in (("ari", "ARI at the separator"), ("ari_within_x", "ARI within each x")):
        layers = " ".join(f"{final[key]:.2f}" for key in final if key.startswith(f"{metric}/val/"))
        console.print(f"{label}, validation, layers 0 to L: {layers}", soft_wrap=True)
    console.print(f"Everything lies in {run.path} (open figures/index.html)", soft_wrap=True)
