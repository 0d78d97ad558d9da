"""The summary that a run prints at its end."""

from io import StringIO
from pathlib import Path

from planted import config, plant
from rich.console import Console

from taskcluster.measures.vectors import PROMPT_METRICS, vector_metrics
from taskcluster.metrics import ARI, control, ends
from taskcluster.runs.folder import RunFolder
from taskcluster.training.answer import show


def printed(run: RunFolder) -> list[list[str]]:
    """The lines, in their cells."""
    out = StringIO()
    show(run, Console(file=out, width=200))
    return [[cell.strip() for cell in line.strip("│┃ \n").split("│")] for line in out.getvalue().splitlines()]


def test_curves_by_layer_and_the_claims_that_are_decided(tmp_path: Path) -> None:
    run = plant(tmp_path / "run", 0.9, config(0), kmeans=(0.0, 0.01))
    said = printed(run)
    assert ["ARI at the separator", "0.02", "0.31", "0.61", "0.90"] in said
    assert ["of shuffled labels", "0.01", "0.01", "0.01", "0.01"] in said or [
        "of shuffled labels",
        *["0.00"] * 4,
    ] in said
    assert [cells[0] for cells in said if cells[-1] == "pass"]
    results = run.results()
    decided = results["claims"][0]["name"]
    run.write_results(results | {"claims": [{**c, "passed": None} for c in results["claims"]]})
    assert not [cells for cells in printed(run) if cells[0] == decided]


def test_accuracy_with_and_without_demonstrations_and_the_table_of_vectors(tmp_path: Path) -> None:
    run, untrained = RunFolder(tmp_path / "run"), control(ARI, "untrained", "baseline", "untrained network")
    single = [*PROMPT_METRICS, *(m for m in vector_metrics("mean") if not m.by_layer)]
    layers = {m.at("val", layer): layer / 100 for m in (ARI, untrained) for layer in range(31)}
    row = {"step": 0, **{m.stem("val"): 0.125 for m in single}, **layers, "val/vector_mean_layer": 20.0}
    row |= dict(zip((end.stem("val") for end in ends(single[-3])), (0.05, 0.25), strict=True))
    run.start(config(0), None, [*single, *ends(single[-3]), ARI, untrained])
    run.write_results({"claims": [], "final": row})
    said = printed(run)
    for place in ("without demonstrations", "with shuffled demonstrations", "with demonstrations"):
        assert [place, "0.125", "0.125"] in said
    assert ["mean of the task patched in, chosen layer", "0.125 [0.050, 0.250]", "0.125", "20"] in said
    shown = [f"{layer / 100:.2f}" for layer in range(0, 31, 3)]
    assert ["ARI at the separator", *shown] in said
    assert ["untrained network", *shown] in said
