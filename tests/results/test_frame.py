"""The files of numbers: one name and one type for each column, in CSV and in Parquet."""

from pathlib import Path
from typing import Any

import polars
import pytest
from planted import config, plant
from polars.testing import assert_frame_equal

from taskcluster.pages import multirun_report as report
from taskcluster.pages import rendering
from taskcluster.results.findings import Findings
from taskcluster.results.frame import INTERVALS, NUMBERS, intervals
from taskcluster.results.points import over_runs
from taskcluster.runs.journal import parse


@pytest.fixture(autouse=True)
def _without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "draw", lambda *_: {})


def frames(root: Path) -> list[polars.DataFrame]:
    """The table and the intervals of a report, each the same in both files."""
    report.write(root)
    read = []
    for name in ("table", "intervals"):
        parquet = polars.read_parquet(root / f"report/{name}.parquet")
        assert polars.Null not in parquet.dtypes
        assert_frame_equal(polars.read_csv(root / f"report/{name}.csv", schema=parquet.schema), parquet)
        read.append(parquet)
    return read


def sweep(root: Path, *parts: dict[str, Any], seeds: int = 1) -> None:
    for k, part in enumerate(parts):
        for seed in range(seeds):
            plant(root / f"sweep/c={k}/seed={seed}", 0.9, config(seed, **part), kmeans=(0.0, 0.01))


def distinct(frame: polars.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return frame.select(columns).unique(maintain_order=True).rows()


def test_one_run_has_every_column_with_its_type(tmp_path: Path) -> None:
    plant(tmp_path / "seed=3", 0.9, config(3))
    table, intervals = frames(tmp_path)
    texts = dict.fromkeys(("condition", "run"), polars.String)
    assert table.schema == {**texts, "seed": polars.Int64, **NUMBERS}
    assert distinct(table, "seed") == [(3,)]
    assert intervals.select("lower", "lower_over_map").dtypes == [polars.Float64] * 2
    assert intervals["lower"].is_null().all()  # one run cannot tell


def test_metrics_and_splits_are_named_as_in_the_journal(tmp_path: Path) -> None:
    run = plant(tmp_path / "seed=0", 0.9, config(0), kmeans=(0.0, 0.01))
    table, intervals = frames(tmp_path)
    assert {*table["split"]} == {"train", "val", None}
    assert {*intervals["split"]} == {"train", "val"}
    numbers = {row[:-1]: row[-1] for row in table.select("step", "metric", "split", "layer", "value").rows()}
    for row in run.rows():
        for key, value in row.items():
            if named := parse(key):
                assert numbers[row["step"], *named] == value
    assert {"claim: ends high on validation (last layer)", "emergence of ari"} < {*table["metric"]}
    repeated = table.filter(metric="ari with another KMeans seed", layer=3).select("repetition", "value").rows()
    assert repeated == [(0, pytest.approx(0.9)), (1, pytest.approx(0.91))]


def test_intervals_are_those_of_the_points_for_conditions_of_any_shape(tmp_path: Path) -> None:
    for k, (n_layer, n_seeds) in enumerate([(2, 5), (3, 5), (2, 4), (2, 1), (3, 5)]):
        for seed in range(n_seeds):
            plant(tmp_path / f"c={k}/seed={seed}", 0.8 + seed / 50, config(seed, n_layer=n_layer, task={"k": k}))
    found = Findings(tmp_path)
    points = [
        {"condition": name, **point}
        for name, condition in found.named()
        for point in over_runs([run.rows for run in condition.runs], found.catalogue, [*map(str, range(5))])
    ]
    expected = polars.DataFrame(points, schema=dict(INTERVALS))
    made = intervals(found)
    assert_frame_equal(made.select(expected.columns), expected, check_exact=True)
    assert distinct(made, "condition", "model.n_layer") == [
        (name, condition.settings["model.n_layer"]) for name, condition in found.named()
    ]


def test_swept_keys_are_columns_of_their_own_type(tmp_path: Path) -> None:
    optimizers = [{"lr": 0.1, "name": "sgd", "on": True}, {"lr": 1, "name": "adamw", "on": False}]
    sweep(tmp_path, {"n_layer": 2, "optimizer": optimizers[0]}, {"n_layer": 3, "optimizer": optimizers[1]}, seeds=2)
    columns = ["model.n_layer", "optimizer.lr", "optimizer.name", "optimizer.on"]
    for frame in frames(tmp_path):
        assert frame.columns[1:5] == columns
        assert frame.select(columns).dtypes == [polars.Int64, polars.Float64, polars.String, polars.Boolean]
        assert distinct(frame, *columns) == [(2, 0.1, "sgd", True), (3, 1.0, "adamw", False)]


def test_keys_that_differ_between_sweeps_are_columns_too(tmp_path: Path) -> None:
    plant(tmp_path / "small/seed=0", 0.9, config(0, n_layer=2))
    plant(tmp_path / "large/seed=0", 0.9, config(0, n_layer=3))
    for frame in frames(tmp_path):
        assert distinct(frame, "condition", "model.n_layer") == [("large", 3), ("small", 2)]


def test_a_missing_key_is_null_and_mixed_types_and_lists_are_text(tmp_path: Path) -> None:
    sweep(tmp_path, *({"task": task} for task in ({"words": ["a", "b"], "n": 3}, {"words": []}, {"n": "all"})))
    plant(tmp_path / "other/seed=x", 0.9, config(0, task={"more": 5}) | {"seed": "x"})
    table, _ = frames(tmp_path)
    values = [('["a", "b"]', "3", "0"), ("[]", None, "0"), (None, "all", "0"), (None, None, "x")]
    assert sorted(distinct(table, "task.words", "task.n", "seed"), key=str) == sorted(values, key=str)
    assert {*distinct(table, "task.more", "seed")} == {(None, "0"), (5, "x")}  # which only the other sweep has


def test_seeds_that_are_set_separately_are_columns(tmp_path: Path) -> None:
    for k, seeds in enumerate([{"tasks": 0, "kmeans": 0}, {"tasks": 0, "kmeans": 7}, {"tasks": 4, "kmeans": 0}]):
        plant(tmp_path / f"run={k}", 0.9, config(0) | {"seeds": seeds})
    table, intervals = frames(tmp_path)
    assert table.select("seed", "seeds.kmeans", "seeds.tasks").dtypes == [polars.Int64] * 3
    assert distinct(table, "seed", "seeds.kmeans", "seeds.tasks") == [(0, 0, 0), (0, 7, 0), (0, 0, 4)]
    assert not any("seed" in column for column in intervals.columns)  # which are over seeds


def test_texts_keep_their_content(tmp_path: Path) -> None:
    names = ["ü", 'a,"b"', "line\nbreak", "1", "true", ""]
    sweep(tmp_path, *({"task": {"name": name}} for name in names))
    table, _ = frames(tmp_path)
    assert distinct(table, "task.name") == [(name,) for name in names]
