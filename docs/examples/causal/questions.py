"""What the runs of experiment=causal say, from the table of their report.

    python questions.py multirun/causal/report/table.csv

Means over seeds [95 % interval, Student's t], the seeds as the unit.
"""

import sys

import numpy as np
import polars as pl
from scipy.stats import rankdata, t

PAIRS = {"at the separator": ("ari", "effect_add_instruction_end"), "at x": ("ari_within_x", "effect_add_input")}


def interval(values: list[float | None], digits: int = 2) -> str:
    """Mean and interval; undefined values are left out."""
    known = np.array([value for value in values if value is not None and np.isfinite(value)])
    if not len(known):
        return "-"
    half = t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / len(known) ** 0.5 if len(known) > 1 else np.nan
    return f"{known.mean():.{digits}f} [{known.mean() - half:.{digits}f}, {known.mean() + half:.{digits}f}]"


def by_layer(table: pl.DataFrame, metric: str) -> str:
    """At the last step, layers 0 to L."""
    last = table.filter((pl.col("metric") == metric) & (pl.col("step") == table["step"].max()))
    layers = last.sort("layer").partition_by("layer", maintain_order=True)
    return ", ".join(interval(of_layer["value"].to_list()) for of_layer in layers)


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
    table = pl.read_csv(file, infer_schema_length=None).filter(
        pl.col("split").is_null() | (pl.col("split") == "validation")
    )
    for condition in table["condition"].unique(maintain_order=True):
        own = table.filter(pl.col("condition") == condition)
        print(f"\n## {condition}\n\n| | |\n|---|---|")
        for name in ("clean_a", "source_b"):
            last = own.filter((pl.col("metric") == name) & (pl.col("step") == own["step"].max()))
            print(f"| {name} | {interval(last['value'].to_list())} |")
        for metric in own["metric"].unique(maintain_order=True):
            if metric.startswith(("effect_", "kept_ablate", "kept_keep")) or metric in ("ari", "ari_within_x"):
                print(f"| {metric}, layers 0 to L | {by_layer(own, metric)} |")
        for metric in ("accuracy", "ari", "ari_within_x", "effect_add_input"):
            found = own.filter(pl.col("metric") == f"emergence of {metric}")["value"].to_list()
            print(f"| step at which {metric} emerges | {interval(found, 0)} |")
        for where, pair in PAIRS.items():
            plain, given = (interval(found) for found in correlations(own, *pair))
            print(f"| rank correlation of ARI and effect {where}; given the loss | {plain}; {given} |")


if __name__ == "__main__":
    main(sys.argv[1])
