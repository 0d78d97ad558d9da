"""The tables of a report's numbers: one name and one type for each column, whatever the runs.

in:  Findings; the points of a condition
out: data frames. Keys of the configuration in which the runs differ are columns too, each of its own type: swept keys
     such as model.n_layer beside the condition, seeds that are set separately such as seeds.kmeans beside the seed
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars

from taskcluster.results.aggregate import Point
from taskcluster.results.findings import Findings, Finished
from taskcluster.runs.condition import flatten, separate_seeds

Schema = Mapping[str, type[polars.DataType]]

NUMBERS: Schema = {
    "step": polars.Int64,
    "metric": polars.String,
    "split": polars.String,
    "layer": polars.Int64,
    "repetition": polars.Int64,
    "value": polars.Float64,
}
ENDS = ("", *(f"_over_{family}" for family in ("steps", "layers", "map")))
INTERVALS: Schema = {
    **{key: NUMBERS[key] for key in ("step", "metric", "split", "layer")},
    "n": polars.Int64,
    **dict.fromkeys(("mean", "sd"), polars.Float64),
    **{f"{end}{family}": polars.Float64 for family in ENDS for end in ("lower", "upper")},
    "cells": polars.Int64,
    **dict.fromkeys(("iqm", "iqm_lower", "iqm_upper"), polars.Float64),
}
LARGEST = 2**63  # whole numbers of 64 bits are below
EXACT = 2**53  # up to which a float holds every whole number


class Columns:
    """The columns of one report."""

    def __init__(self, found: Findings) -> None:
        self._found = found
        self._configs = [flatten(run.config) for run in found.runs]
        swept = dict.fromkeys(key for condition in found.conditions for key in condition.settings)
        seeds = dict.fromkeys(key for run in found.runs for key in separate_seeds(run.config))
        self._swept, self._seeds = (self._typed(keys) for keys in (swept, seeds))

    def table(self) -> polars.DataFrame:
        """Every number of every run, a row each."""
        seeds: Schema = {**self._typed(["seed"]), **self._seeds}
        labels: Schema = {"condition": polars.String, **self._swept, "run": polars.String, **seeds}

        def cells(name: str, run: Finished) -> dict[str, Any]:
            return {"condition": name, "run": run.path, **_cells(run, self._swept), **_cells(run, seeds)}

        return polars.concat(
            _labelled(rows, NUMBERS, cells(name, run), labels) for name, run, rows in self._found.tidy()
        )

    def intervals(self, name: str, run: Finished, points: Sequence[Point]) -> polars.DataFrame:
        """Those of a condition, one of whose runs is given."""
        cells = {"condition": name, **_cells(run, self._swept)}
        return _labelled(points, INTERVALS, cells, {"condition": polars.String, **self._swept})

    def _typed(self, keys: Iterable[str]) -> Schema:
        return {key: _type([config.get(key) for config in self._configs]) for key in keys}


def _cells(run: Finished, schema: Schema) -> dict[str, Any]:
    config = flatten(run.config)
    return {key: _cell(config.get(key), kind) for key, kind in schema.items()}


def _labelled(
    rows: Sequence[Mapping[str, Any]], schema: Schema, cells: Mapping[str, Any], labels: Schema
) -> polars.DataFrame:
    """Rows, with columns before their own that have the same cell in all of them."""
    before = [polars.lit(cells[key], dtype=kind).alias(key) for key, kind in labels.items()]
    return polars.DataFrame(rows, schema=dict(schema)).select(*before, polars.all())


def _type(values: Sequence[Any]) -> type[polars.DataType]:
    """One that holds all values which are there exactly: text where no type of numbers does."""
    there = [value for value in values if value is not None]
    kinds = {type(value) for value in there}
    if kinds == {bool}:
        return polars.Boolean
    if kinds == {int} and all(-LARGEST <= value < LARGEST for value in there):
        return polars.Int64
    exact = float in kinds <= {int, float} and all(isinstance(v, float) or abs(v) <= EXACT for v in there)
    return polars.Float64 if exact else polars.String


def _cell(value: Any, kind: type[polars.DataType]) -> Any:
    if value is None or kind is not polars.String:
        return value
    return value if isinstance(value, str) else json.dumps(value)
