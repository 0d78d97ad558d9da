"""Every number of every run, and every interval, as data frames with one type for each column.

in:  Findings; the points of its conditions
out: data frames. Keys of the configuration in which the runs differ are columns too, each of its own type: swept keys
     such as model.n_layer beside the condition, seeds that are set separately such as seeds.kmeans beside the seed
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars

from taskcluster.results.conditions import differing_keys
from taskcluster.results.findings import Findings, Finished
from taskcluster.results.points import FAMILIES, matrices
from taskcluster.runs.condition import decisive, flatten, separate_seeds
from taskcluster.runs.journal import parse
from taskcluster.views import shown

Schema = Mapping[str, type[polars.DataType]]

NUMBERS: Schema = {
    "step": polars.Int64,
    "metric": polars.String,
    "split": polars.String,
    "layer": polars.Int64,
    "other_layer": polars.Int64,
    "repetition": polars.Int64,
    "value": polars.Float64,
}
ENDS = ("", *(f"_over_{family}" for family in FAMILIES))
INTERVALS: Schema = {
    "condition": polars.String,
    **{key: NUMBERS[key] for key in ("step", "metric", "split", "layer")},
    "n": polars.Int64,
    **dict.fromkeys(("mean", "sd"), polars.Float64),
    **{f"{end}{family}": polars.Float64 for family in ENDS for end in ("lower", "upper")},
    "cells": polars.Int64,
}
TYPES: Mapping[frozenset[type], type[polars.DataType]] = {
    frozenset({bool}): polars.Boolean,
    frozenset({int}): polars.Int64,
    frozenset({float}): polars.Float64,
    frozenset({int, float}): polars.Float64,
}


def results(folder: str | Path) -> polars.DataFrame:
    """Every number of the finished runs at or below a folder, a row each: what the tables of a report are made of.

    Columns: condition; each key of the configuration in which conditions differ, such as optimizer.weight_decay, in a
    type of its own; run; seed, and each seed that is set separately; step; metric; split; layer; other_layer, for
    metrics by two layers; repetition; value.

    A metric is called as in the journal. "emergence of METRIC" is the step at which it emerges, "claim: NAME" the value
    that a claim is decided by, "METRIC with another KMeans seed" a control, whose repetitions are counted.

    Raises:
        UserError: there is no folder, or no finished run in it.
    """
    return numbers(Findings(Path(folder)))


def numbers(findings: Findings) -> polars.DataFrame:
    """See `results`. Without claims if none is decided."""
    claims = bool(findings.claims)
    frames = []
    for run in (run for condition in findings.conditions for run in condition.runs):
        rows = polars.DataFrame([*_numbers(run, claims)], schema=dict(NUMBERS), orient="row", strict=False)
        frames.append(rows.with_columns(polars.col("value").fill_nan(None), run=polars.lit(run.path)))
    seeds = dict.fromkeys(key for run in findings.runs for key in separate_seeds(run.config))
    return labelled(findings, polars.concat(frames), "run", ["seed", *seeds])


def labelled(findings: Findings, rows: polars.DataFrame, by: str, seeds: Sequence[str] = ()) -> polars.DataFrame:
    """Rows of runs or conditions, as `by` says, with columns before the others: the condition and the keys in which
    conditions differ, of any sweep, and of runs also their path and their seeds."""
    named = [(name, run) for name, condition in findings.named() for run in condition.runs]
    configs = [flatten(run.config) | decisive(run.config) | {"condition": name, "run": run.path} for name, run in named]
    swept = differing_keys([decisive(condition.runs[0].config) for condition in findings.conditions])
    keys = ["condition", *swept, *(["run", *seeds] if by == "run" else [])]
    labels = polars.DataFrame([_column(key, [config.get(key) for config in configs]) for key in keys])
    labelled = rows.join(labels.unique(by), on=by, how="left", maintain_order="left")
    return labelled.select(*keys, polars.exclude(keys))


def _column(name: str, values: Sequence[Any]) -> polars.Series:
    """Values in a type that holds all of them: text if they are of several types, or no numbers."""
    kind = TYPES.get(frozenset(type(value) for value in values if value is not None), polars.String)
    if kind is polars.String:
        values = [value if isinstance(value, str | None) else json.dumps(value) for value in values]
    return polars.Series(name, values, kind, strict=False)


def _numbers(run: Finished, claims: bool) -> Iterator[tuple[Any, ...]]:
    """The rows of a run in the order of NUMBERS."""
    for line in run.rows:
        parsed = ((parse(key), value) for key, value in line.items())
        yield from ((line["step"], *key, None, None, value) for key, value in parsed if key)
        for metric, split, matrix in matrices(line, run.catalogue):
            cells = ((k, other, value) for k, values in enumerate(matrix) for other, value in enumerate(values))
            yield from ((line["step"], metric.key, split, k, other, None, value) for k, other, value in cells)
    end = run.last["step"]
    for claim in run.results["claims"] if claims else ():
        yield end, f"claim: {claim['name']}", None, None, None, None, claim["value"]
    for metric in shown(run.catalogue, "tables"):
        if run.rises(metric):
            layer = len(run.keys(metric)) - 1 if metric.by_layer else None
            yield end, f"emergence of {metric.key}", "val", layer, None, None, run.emergence(metric)
    for key, layers in run.results.get("controls", {}).items():
        if control := run.catalogue.get(key):
            name = f"{control.of} {control.where}"
            for layer, values in enumerate(layers):
                yield from ((end, name, "val", layer, None, k, value) for k, value in enumerate(values))
