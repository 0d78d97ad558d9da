"""The files of numbers: one name and one type for each column, in CSV and in Parquet."""

import csv
from pathlib import Path
from typing import Any

import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import config, plant
from polars.testing import assert_frame_equal

from taskcluster.pages import multirun_report
from taskcluster.results.columns import Columns, _cell, _type
from taskcluster.results.findings import Findings
from taskcluster.runs.journal import parse

FIRST = {
    "condition": polars.String,
    "run": polars.String,
    "seed": polars.Int64,
    "step": polars.Int64,
    "metric": polars.String,
    "split": polars.String,
    "layer": polars.Int64,
    "repetition": polars.Int64,
    "value": polars.Float64,
}


def frames(root: Path) -> tuple[polars.DataFrame, polars.DataFrame]:
    """The table and the intervals of a report, each the same in both files."""
    multirun_report.write(root)
    found = []
    for name in ("table", "intervals"):
        parquet = polars.read_parquet(root / f"report/{name}.parquet")
        file = root / f"report/{name}.csv"
        assert polars.Null not in parquet.dtypes
        assert_frame_equal(polars.read_csv(file, schema=parquet.schema), parquet)
        inferred = polars.read_csv(file, infer_schema_length=None)
        there = [key for key in parquet.columns if not parquet[key].is_null().all()]
        assert_frame_equal(inferred.select(there), parquet.select(there))
        with file.open(encoding="utf-8", newline="") as text:
            rows = list(csv.DictReader(text))
        assert list(rows[0]) == parquet.columns
        assert [row["metric"] for row in rows] == parquet["metric"].to_list()
        found.append(parquet)
    return found[0], found[1]


def sweep(root: Path, *parts: dict[str, Any], seeds: int = 1) -> None:
    for k, part in enumerate(parts):
        for seed in range(seeds):
            plant(root / f"sweep/c={k}/seed={seed}", 0.9, config(seed, **part), kmeans=(0.0, 0.01))


def test_one_run_has_every_column_with_its_type(tmp_path: Path) -> None:
    plant(tmp_path / "seed=3", 0.9, config(3))
    table, intervals = frames(tmp_path)
    assert table.schema == FIRST
    assert table["seed"].unique().to_list() == [3]
    assert intervals.select("lower", "iqm", "lower_over_map").dtypes == [polars.Float64] * 3
    assert intervals["lower"].is_null().all()  # one run cannot tell


def test_metrics_and_splits_are_named_as_in_the_journal(tmp_path: Path) -> None:
    run = plant(tmp_path / "seed=0", 0.9, config(0), kmeans=(0.0, 0.01))
    table, intervals = frames(tmp_path)
    assert set(table["split"].unique()) == {"train", "val", None}
    assert set(intervals["split"].unique()) == {"train", "val"}
    for row in run.rows():
        for key, value in row.items():
            if named := parse(key):
                chosen = table.filter(
                    polars.col("step") == row["step"],
                    polars.col("metric") == named.metric,
                    polars.col("split") == named.split,
                    polars.col("layer").eq_missing(named.layer),
                )
                assert chosen["value"].to_list() == [value]
                assert key in (f"{named.split}/{named.metric}", f"{named.metric}/{named.split}/layer_{named.layer}")


def test_swept_keys_are_columns_of_their_own_type(tmp_path: Path) -> None:
    optimizers = [{"lr": 0.1, "name": "sgd", "on": True}, {"lr": 1, "name": "adamw", "on": False}]
    sweep(tmp_path, {"n_layer": 2, "optimizer": optimizers[0]}, {"n_layer": 3, "optimizer": optimizers[1]}, seeds=2)
    table, intervals = frames(tmp_path)
    types = {
        "model.n_layer": polars.Int64,
        "optimizer.lr": polars.Float64,
        "optimizer.name": polars.String,
        "optimizer.on": polars.Boolean,
    }
    for frame in (table, intervals):
        assert frame.columns[1:5] == list(types)
        assert {key: frame.schema[key] for key in types} == types
        values = frame.select("condition", *types).unique(maintain_order=True).rows()
        assert [row[1:] for row in values] == [(2, 0.1, "sgd", True), (3, 1.0, "adamw", False)]
    assert table.columns[5:7] == ["run", "seed"]


def test_a_key_that_a_condition_lacks_is_null_and_lists_are_text(tmp_path: Path) -> None:
    sweep(
        tmp_path,
        {"task": {"words": ["a", "b"], "n": 3}},
        {"task": {"words": []}},
        {"task": {"words": None, "n": "all"}},
    )
    table, _ = frames(tmp_path)
    values = table.select("task.words", "task.n").unique(maintain_order=True).rows()
    assert values == [('["a", "b"]', "3"), ("[]", None), (None, "all")]
    assert table["task.n"].dtype == polars.String


def test_of_two_sweeps_each_has_the_values_of_its_configuration(tmp_path: Path) -> None:
    for n_layer in (2, 3):
        plant(tmp_path / f"one/l={n_layer}/seed=0", 0.9, config(0, n_layer=n_layer))
    plant(tmp_path / "other/seed=0", 0.9, config(0, n_layer=3, task={"n": 5}))
    table, _ = frames(tmp_path)
    assert table.select("run", "model.n_layer").unique(maintain_order=True)["model.n_layer"].to_list() == [2, 3, 3]
    assert "task.n" not in table.columns  # in which no sweep varies


def test_seeds_that_are_set_separately_are_columns_and_the_seed_stays_a_number(tmp_path: Path) -> None:
    for k, seeds in enumerate([{"tasks": 0, "kmeans": 0}, {"tasks": 0, "kmeans": 7}, {"tasks": 4, "kmeans": 0}]):
        plant(tmp_path / f"run={k}", 0.9, config(0) | {"seeds": seeds})
    table, intervals = frames(tmp_path)
    assert table.schema["seed"] == table.schema["seeds.kmeans"] == table.schema["seeds.tasks"] == polars.Int64
    runs = table.select("seed", "seeds.kmeans", "seeds.tasks").unique(maintain_order=True).rows()
    assert runs == [(0, 0, 0), (0, 7, 0), (0, 0, 4)]
    assert not any("seed" in column for column in intervals.columns)  # which are over seeds


def test_a_seed_that_is_no_number_makes_the_column_text(tmp_path: Path) -> None:
    plant(tmp_path / "seed=0", 0.9, config(0))
    plant(tmp_path / "seed=x", 0.9, config(1) | {"seed": "x", "seeds": {}, "model": {"n_layer": 3}})
    found = Columns(Findings(tmp_path)).table()
    assert found["seed"].unique(maintain_order=True).to_list() == ["0", "x"]


values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text()
    | st.lists(st.integers())
)


@settings(deadline=None)
@given(st.lists(values, min_size=1, max_size=5))
def test_any_values_have_one_type_that_loses_none_of_them(given_values: list[Any]) -> None:
    kind = _type(given_values)
    cells = [_cell(value, kind) for value in given_values]
    column = polars.Series(cells, dtype=kind)
    assert column.is_null().to_list() == [value is None for value in given_values]
    for value, cell in zip(given_values, column.to_list(), strict=True):
        if kind == polars.Float64:
            assert cell == value
        elif kind != polars.String or isinstance(value, str):
            assert cell == value
            assert type(cell) is type(value)


@pytest.mark.parametrize("name", ["ü", 'a,"b"', "line\nbreak", "1", "true", ""])
def test_texts_keep_their_content(tmp_path: Path, name: str) -> None:
    sweep(tmp_path, {"task": {"name": name}}, {"task": {"name": "x"}})
    multirun_report.write(tmp_path)
    parquet = polars.read_parquet(tmp_path / "report/table.parquet")
    assert parquet["task.name"].unique(maintain_order=True).to_list() == [name, "x"]
    read = polars.read_csv(tmp_path / "report/table.csv", schema=parquet.schema)
    assert read["task.name"].unique(maintain_order=True).to_list() == [name, "x"]
