"""Undefined metrics, and figures or controls that fail after the last update, do not fail a run."""

import math
from pathlib import Path
from typing import NamedTuple

import polars
import pytest
from conftest import SMALL, Train
from faults import train

from taskcluster.operations.live.watcher import Watcher
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import fixed, number

pytestmark = pytest.mark.slow

APART = (
    *(key for key in SMALL if not key.startswith(("task.", "logger="))),
    "task=custom",
    "task.tasks=[{regexes:['a[pqrs]{2,4}'],mapping:{p:q,r:s}},{regexes:['b[pqrs]{2,4}'],mapping:{t:u,v:w}}]",
    "task.instructions_per_task=20",
)


class Sweep(NamedTuple):
    root: Path
    runs: list[RunFolder]
    output: str


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Two runs of two tasks that share no x, so that no state at x can be compared with another task's."""
    folder = tmp_path_factory.mktemp("apart")
    output = train(folder, "-m", *APART, "name=apart", "seed=0,1", "hydra.sweep.subdir=${seed}", figures=True)
    root = folder / "multirun/apart"
    return Sweep(root, [RunFolder(root / seed) for seed in "01"], output)


def test_the_journal_has_null_and_the_terminal_a_dash(apart: Sweep) -> None:
    for run in apart.runs:
        assert run.status()["state"] == "finished"
        assert {row["ari_within_x/val/layer_2"] for row in run.rows()} == {None}
    assert "ARI within x -" in apart.output
    assert "nan" not in apart.output.lower()


def test_the_report_has_dashes_and_its_tables_nulls(apart: Sweep) -> None:
    page = (apart.root / "report/report.md").read_text()
    rows = page.partition("ARI by layer, at x, within each value of x")[2].splitlines()
    assert "| 0 | - | - | - |" in [" ".join(line.split()) for line in rows]
    assert "nan" not in page.lower()
    numbers = polars.read_parquet(apart.root / "report/table.parquet").filter(polars.col("metric") == "ari_within_x")
    assert numbers["value"].null_count() == len(numbers) > 0


def test_figures_are_drawn_and_the_live_page_has_gaps(apart: Sweep) -> None:
    for run in apart.runs:
        assert (run.figures / "ari_within_x.png").stat().st_size > 0
    watcher = Watcher(apart.root)
    watcher.scan()
    ((_, curves),) = watcher.conditions.values()
    undefined = [k for k, key in enumerate(curves.keys) if key.startswith("ari_within_x/")]
    assert undefined
    assert all(math.isnan(point["mean"][k]) for point in curves.points.values() for k in undefined)
    assert {live.state for live in watcher.runs()} == {"finished"}


def test_undefined_numbers_read_as_a_dash() -> None:
    values = None, float("nan"), float("inf"), number({}, "val/accuracy"), -0.0001
    assert [fixed(value) for value in values] == ["-", "-", "-", "-", "0.000"]


def test_a_figure_that_cannot_be_made_is_named_and_made_by_the_same_command(
    taskcluster_train: Train, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    in_the_way = [run.figures / "ari.png", run.figures / "tsne.json"]
    for path in in_the_way:
        path.mkdir(parents=True)
    output = taskcluster_train(*SMALL, "hydra.run.dir=run").output()
    for product in ("t-SNE", "the figures"):
        assert f"{product} could not be made ([Errno 21] Is a directory" in output
    for path in in_the_way:
        path.rmdir()
    assert "could not be made" not in taskcluster_train(*SMALL, "hydra.run.dir=run").output()
    assert (run.figures / "index.html").is_file()
