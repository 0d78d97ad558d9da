"""Every number of every run, and every interval, as data frames with one type for each column.

in:  Findings; the points of a condition
out: data frames. Keys of the configuration in which the runs differ are columns too, each of its own type: swept keys
     such as model.n_layer beside the condition, seeds that are set separately such as seeds.kmeans beside the seed
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars

from taskcluster.results.findings import Findings, Finished
from taskcluster.results.points import FAMILIES, Point
from taskcluster.runs.condition import flatten, separate_seeds
from taskcluster.runs.journal import parse
from taskcluster.views import shown

Schema = Mapping[str, type[polars.DataType]]

NUMBERS: Schema = {
    "step": polars.Int64,
    "metric": polars.String,
    "split": polars.String,
    "layer": polars.Int64,
    "repetition": polars.Int64,
    "value": polars.Float64,
}
ENDS = ("", *(f"_over_{family}" for family in FAMILIES))
INTERVALS: Schema = {
    **{key: NUMBERS[key] for key in ("step", "metric", "split", "layer")},
    "n": polars.Int64,
    **dict.fromkeys(("mean", "sd"), polars.Float64),
    **{f"{end}{family}": polars.Float64 for family in ENDS for end in ("lower", "upper")},
    "cells": polars.Int64,
    **dict.fromkeys(("iqm", "iqm_lower", "iqm_upper"), polars.Float64),
}
LARGEST = 2**63  # whole numbers of 64 bits are below


class Frames:
    """The data frames of one report."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._configs = [flatten(run.config) for run in findings.runs]
        self._swept = self._typed(key for condition in findings.conditions for key in condition.settings)
        self._seeds = self._typed(["seed", *(key for run in findings.runs for key in separate_seeds(run.config))])

    def numbers(self) -> polars.DataFrame:
        """Every number of every run, a row each, condition by condition.

        metric: as in the journal; "claim: NAME"; "emergence of METRIC" (a step); "METRIC with another KMeans seed", a
        control, whose repetitions are counted. Without claims if none is decided.
        """
        labels: Schema = {"condition": polars.String, **self._swept, "run": polars.String, **self._seeds}
        claims = bool(self._findings.claims)
        frames = []
        for name, condition in self._findings.named():
            for run in condition.runs:
                rows = polars.DataFrame([*_numbers(run, claims)], schema=dict(NUMBERS), orient="row", strict=False)
                rows = rows.with_columns(polars.col("value").fill_nan(None))
                frames.append(_labelled(rows, run, {"condition": name, "run": run.path}, labels))
        return polars.concat(frames)

    def intervals(self, name: str, run: Finished, points: Sequence[Point]) -> polars.DataFrame:
        """The intervals of a condition, one of whose runs is given."""
        rows = polars.DataFrame(points, schema=dict(INTERVALS))
        return _labelled(rows, run, {"condition": name}, {"condition": polars.String, **self._swept})

    def _typed(self, keys: Iterable[str]) -> Schema:
        return {key: column_type([config.get(key) for config in self._configs]) for key in keys}


def _labelled(rows: polars.DataFrame, run: Finished, named: Mapping[str, Any], labels: Schema) -> polars.DataFrame:
    """Rows, with columns before their own that have one cell in all rows: as named, or of the run's configuration."""
    cells = flatten(run.config) | dict(named)
    before = [polars.lit(as_cell(cells.get(key), kind), dtype=kind).alias(key) for key, kind in labels.items()]
    return rows.select(*before, polars.all())


def column_type(values: Sequence[Any]) -> type[polars.DataType]:
    """A type that holds all values, None aside: text if they are of several types, or no numbers."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return polars.Boolean
    if kinds == {int} and all(value is None or -LARGEST <= value < LARGEST for value in values):
        return polars.Int64
    return polars.Float64 if float in kinds <= {int, float} else polars.String


def as_cell(value: Any, kind: type[polars.DataType]) -> Any:
    return json.dumps(value) if kind is polars.String and not isinstance(value, str | None) else value


def _numbers(run: Finished, claims: bool) -> Iterator[tuple[Any, ...]]:
    """The rows of a run in the order of NUMBERS."""
    for line in run.rows:
        parsed = ((parse(key), value) for key, value in line.items())
        yield from ((line["step"], *key, None, value) for key, value in parsed if key)
    end = run.last["step"]
    for claim in run.results["claims"] if claims else ():
        yield end, f"claim: {claim['name']}", None, None, None, claim["value"]
    for metric in shown(run.catalogue, "tables"):
        if run.rises(metric):
            layer = len(run.keys(metric)) - 1 if metric.by_layer else None
            yield end, f"emergence of {metric.key}", "val", layer, None, run.emergence(metric)
    for key, layers in run.results.get("controls", {}).items():
        if control := run.catalogue.get(key):
            name = f"{control.of} {control.where}"
            for layer, values in enumerate(layers):
                yield from ((end, name, "val", layer, k, value) for k, value in enumerate(values))
