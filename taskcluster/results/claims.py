"""The paper's claims, each as a number, a threshold and a verdict. Journal rows in, Claims out.

Claims are those of Wu and Varshney, "Transformer-based Causal Language Models Perform Clustering" (NAACL Findings
2025), about the ARI between KMeans clusters and tasks at the end of the instruction; thresholds are ours.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import ConstantInputWarning, spearmanr

from taskcluster.metrics import ACCURACY, ARI
from taskcluster.runs.journal import layers_of, number

Rows = Sequence[Mapping[str, Any]]

DIFFERENCE = (0.0, ARI.range[1] - ARI.range[0])  # of two values of the ARI, without its sign
CORRELATION = (-1.0, 1.0)


@dataclass(frozen=True)
class Claim:
    """`value` must be on the right side of `threshold` ("<" or ">", as `relation` says). NaN says that the journal has
    not what the claim is about: it neither holds nor fails. range: the least and the greatest value that it can take.
    """

    name: str
    paper: str
    value: float
    relation: str
    threshold: float
    range: tuple[float, float]

    @property
    def passed(self) -> bool | None:
        if math.isnan(self.value):
            return None
        return self.value < self.threshold if self.relation == "<" else self.value > self.threshold


def judge(rows: Rows) -> list[Claim]:
    """The verdict on every claim for a journal whose last row is the final step.

    Rows may be missing: those before the checkpoint of another run with which this one began, which may be its last.
    The claims are about rows at which clusters were measured; without such a measure, about none.
    """
    nothing: Mapping[str, Any] = {}
    rows = [row for row in rows if ARI.at("val", 0) in row]
    last = rows[-1] if rows else nothing
    first = next((row for row in rows if row["step"] == 0), nothing)
    near_end = [nothing, *(row for row in rows[:-1] if row["step"] <= 0.8 * last["step"])][-1]
    n_layer = len(layers_of(last, ARI.stem("val"))) - 1
    deepest = ARI.at("val", n_layer)
    embedding = _column(rows, ARI.at("val", 0)) if len(rows) > 1 else [math.nan]
    starts = [value for split in ("train", "val") for value in layers_of(first, ARI.stem(split))] or [math.nan]
    return [
        Claim(
            "starts near 0 (largest ARI at step 0, all layers)", "near 0", float(np.max(starts)), "<", 0.1, ARI.range
        ),
        Claim("ends high on validation (last layer)", "above 0.6", number(last, deepest), ">", 0.6, ARI.range),
        Claim(
            "saturates (change of the last layer over the last fifth)",
            "flat at the end",
            abs(number(last, deepest) - number(near_end, deepest)),
            "<",
            0.1,
            DIFFERENCE,
        ),
        Claim(
            "deeper layers are higher (rank correlation of layer and final ARI)",
            "rises with depth",
            rank_correlation(range(n_layer + 1), layers_of(last, ARI.stem("val"))),
            ">",
            0.8,
            CORRELATION,
        ),
        Claim("layer 0 stays flat (range of its ARI)", "flat", float(np.ptp(embedding)), "<", 0.05, DIFFERENCE),
        Claim(
            "holds on unseen instructions (last layer, |train - validation|)",
            "close",
            abs(number(last, ARI.at("train", n_layer)) - number(last, deepest)),
            "<",
            0.1,
            DIFFERENCE,
        ),
        Claim(
            "rises with accuracy (rank correlation over training)",
            "rises together",
            rank_correlation(_column(rows, ACCURACY.stem("val")), _column(rows, deepest)),
            ">",
            0.8,
            CORRELATION,
        ),
    ]


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation; NaN where either side is constant, or not a number somewhere."""
    if len(a) < 2:
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        return float(spearmanr(a, b).statistic)


def _column(rows: Rows, key: str) -> list[float]:
    return [number(row, key) for row in rows]
