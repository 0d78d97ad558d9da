"""Instruments in a run of the command: when each is asked, and what is drawn of them."""

from collections.abc import Callable
from pathlib import Path

from conftest import SMALL, Outcome

from taskcluster.runs.folder import RunFolder


def test_a_run_measures_all_instruments_when_they_are_due_and_draws_them(
    taskcluster_train: Callable[..., Outcome], tmp_path: Path
) -> None:
    measures = "measures=[clustering,clustering_at_x,instruments,number_of_clusters,probe]"
    small = [word for word in SMALL if not word.startswith("clusterer")]
    chosen = (measures, "measures.probe.every_n_steps=4", "clusterer=agglomerative")
    assert taskcluster_train(*small, *chosen, "hydra.run.dir=run").exit_code == 0
    run = RunFolder(tmp_path / "run")

    def steps(key: str) -> list[int]:
        return [row["step"] for row in run.rows() if key in row]

    assert steps("ami/val/layer_2") == [0, 2, 4, 6]
    assert steps("selectivity_at_input/val/layer_2") == [0, 4, 6]
    assert steps("chosen_k/val/layer_2") == [6]
    assert steps("ami/train/layer_2") == []
    drawn = {file.name for file in run.figures.glob("*.png")}
    assert {"instruments.png", "agreement.png", "probe.png", "chosen_k_by_layer.png"} <= drawn
    assert "Do the instruments agree?" in (run.figures / "index.html").read_text()
