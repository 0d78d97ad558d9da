"""What the runs of experiment=causal say, from the table of their report.

    python questions.py multirun/causal/report/table.csv

Means over seeds [95 % interval, as in a report, the seeds as the unit]. Of numbers by layer the intervals hold for all
layers at once; "at any layer and step" they hold for all of these at once (Bonferroni).
"""

import sys
from collections.abc import Sequence
from math import inf

import numpy as np
import polars as pl
from scipy.stats import rankdata

from taskcluster.results.cells import as_text
from taskcluster.results.statistics import interval

RATE, CORRELATION = (0.0, 1.0), (-1.0, 1.0)
ARI = ("ari", "ari_within_x")
PAIRS = {"at the separator": ("ari", "effect_add_instruction_end"), "at x": ("ari_within_x", "effect_add_input")}


def said(values: Sequence[float | None], within: tuple[float, float], cells: int = 1, digits: int = 2) -> str:
    """Mean and interval; undefined values are left out."""
    found = interval([np.nan if value is None else value for value in values], within, cells)
    return as_text(found, digits)


def by_layer(table: pl.DataFrame, metric: str) -> str:
    """At the last step, layers 0 to L."""
    last = table.filter((pl.col("metric") == metric) & (pl.col("step") == table["step"].max()))
    layers = last.sort("layer").partition_by("layer", maintain_order=True)
    return ", ".join(said(of_layer["value"].to_list(), RATE, len(layers)) for of_layer in layers)


def at_most(table: pl.DataFrame, metric: str) -> tuple[float, float]:
    """By how much the rate of B's answers is above that without an edit, at most, at any layer and step: the largest
    mean, and the largest upper end of an interval."""
    clean = table.filter(pl.col("metric") == "clean_b").select("seed", "step", pl.col("value").alias("clean"))
    rise = table.filter(pl.col("metric") == metric).join(clean, on=["seed", "step"])
    rise = rise.with_columns(rise=pl.col("value") - pl.col("clean"))
    cells = rise.partition_by("layer", "step")
    found = [interval(cell["rise"].to_list(), (-1.0, 1.0), len(cells)) for cell in cells]
    return max(cell.mean for cell in found), max(cell.upper for cell in found if cell.upper == cell.upper)


def residuals(ranks: np.ndarray, given: np.ndarray) -> np.ndarray:
    centred = given - given.mean()
    return ranks - ranks.mean() - centred * (ranks @ centred) / (centred @ centred)


def correlations(table: pl.DataFrame, clusters: str, effect: str) -> tuple[list[float], list[float]]:
    """Of each seed, over layers 1 to L and measured steps: Spearman's rank correlation of ARI and effect, and what is
    left of it when the rank of the validation loss is taken out of both."""
    keys, plain, partial = ["step", "layer"], [], []
    for of_seed in table.partition_by("seed"):
        columns = [
            of_seed.filter(pl.col("metric") == name).select(*keys, pl.col("value").alias(name))
            for name in (clusters, effect)
        ]
        loss = of_seed.filter(pl.col("metric") == "loss").select("step", pl.col("value").alias("loss"))
        joined = columns[0].join(columns[1], on=keys).filter(pl.col("layer") > 0).join(loss, on="step")
        a, b, given = (rankdata(joined[name]) for name in (clusters, effect, "loss"))
        plain.append(np.corrcoef(a, b)[0, 1])
        partial.append(np.corrcoef(residuals(a, given), residuals(b, given))[0, 1])
    return plain, partial


def main(file: str) -> None:
    table = pl.read_csv(file, infer_schema_length=None).filter(pl.col("split").is_null() | (pl.col("split") == "val"))
    for condition in table["condition"].unique(maintain_order=True):
        own = table.filter(pl.col("condition") == condition)
        print(f"\n## {condition}\n\n| | |\n|---|---|")
        for name in ("clean_a", "source_b", "accuracy"):
            last = own.filter((pl.col("metric") == name) & (pl.col("step") == own["step"].max()))
            print(f"| {name} | {said(last['value'].to_list(), RATE)} |")
        for metric in own["metric"].unique(maintain_order=True):
            if metric.startswith(("effect_", "kept_ablate", "kept_keep", "kept_mean", "kept_random_")) or metric in ARI:
                print(f"| {metric}, layers 0 to L | {by_layer(own, metric)} |")
            if metric.startswith("effect_"):
                print(
                    "| {}, above clean at any layer and step | at most {:.3f}, upper end {:.3f} |".format(
                        metric, *at_most(own, metric)
                    )
                )
        for metric in ("accuracy", "ari", "ari_within_x", "effect_add_input"):
            found = own.filter(pl.col("metric") == f"emergence of {metric}")["value"].to_list()
            print(f"| step at which {metric} emerges | {said(found, (0, inf), digits=0)} |")
        for where, pair in PAIRS.items():
            plain, given = (said(found, CORRELATION) for found in correlations(own, *pair))
            print(f"| rank correlation of ARI and effect {where}; given the loss | {plain}; {given} |")


if __name__ == "__main__":
    main(sys.argv[1])
