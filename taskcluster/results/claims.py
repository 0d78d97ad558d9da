"""The paper's claims, each as a number, a threshold and a verdict. Journal rows in, Claims out.

Claims are those of Wu and Varshney, "Transformer-based Causal Language Models Perform Clustering" (NAACL Findings
2025), about the ARI between KMeans clusters and tasks at the end of the instruction; thresholds are ours.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import ConstantInputWarning, spearmanr

from taskcluster.metrics import ACCURACY, ARI
from taskcluster.results.statistics import RISE
from taskcluster.runs.journal import layers_of, number

Rows = Sequence[Mapping[str, Any]]

DIFFERENCE = (0.0, ARI.range[1] - ARI.range[0])  # of two values of the ARI, without its sign
CORRELATION = (-1.0, 1.0)
LEARNED = 0.25  # rise of the accuracy, beyond what knowing x alone gives


@dataclass(frozen=True)
class Claim:
    """`value` must be on the right side of `threshold` ("<" or ">", as `relation` says). range: the least and the
    greatest value that it can take. undecided: why it neither holds nor fails, "" where the value decides.
    """

    name: str
    paper: str
    value: float
    relation: str
    threshold: float
    range: tuple[float, float]
    undecided: str = ""

    @property
    def passed(self) -> bool | None:
        return None if self.undecided or math.isnan(self.value) else self._holds

    @property
    def _holds(self) -> bool:
        return self.value < self.threshold if self.relation == "<" else self.value > self.threshold

    def given(self, untested: str, fell_back: str = "") -> "Claim":
        """The same, undecided for a reason: there is no value, the claim is `untested`, or it would hold but the curve
        `fell_back`."""
        unknown = "not measured" if math.isnan(self.value) else ""
        return replace(self, undecided=untested or unknown or (fell_back if self._holds else ""))


def judge(rows: Rows) -> list[Claim]:
    """The verdict on every claim for a journal whose last row is the final step.

    Rows may be missing: those before the checkpoint of another run with which this one began, which may be its last.
    The claims are about rows at which clusters were measured; without such a measure, about none.

    A claim is decided only if what it is about has happened. Where the curve starts and ends: if accuracy rose by
    LEARNED or the last layer's ARI by RISE. The others, which are about the shape of a rise: if both rose; and a curve
    that fell back by the end can fail them, not pass.
    """
    rows = [row for row in rows if ARI.at("val", 0) in row]
    claims = _claims(rows)
    accuracy = _risen(rows, ACCURACY.stem("val"), LEARNED, "accuracy")
    clusters = _risen(rows, ARI.at("val", _deepest(rows)), RISE, "the ARI of the last layer")
    untested, fell_back = (one or other for one, other in zip(accuracy, clusters, strict=True))
    ends = [claim.given(accuracy[0] and clusters[0]) for claim in claims[:2]]
    return ends + [claim.given(untested, fell_back) for claim in claims[2:]]


def _risen(rows: Rows, key: str, least: float, name: str) -> tuple[str, str]:
    """Why a curve is not one that rose by `least` at some step, and why not one that had by the end; "" where it is."""
    if len(rows) < 2:
        return ("measured at one step alone",) * 2
    values = [value for value in _column(rows, key) if math.isfinite(value)] or [math.nan]
    if not max(values) - values[0] >= least:
        return (f"{name} did not rise by {least:g}",) * 2
    return "", "" if values[-1] - values[0] >= least else f"{name} fell back by the end"


def _deepest(rows: Rows) -> int:
    return len(layers_of(rows[-1], ARI.stem("val"))) - 1 if rows else 0


def _claims(rows: Rows) -> list[Claim]:
    """Every claim with its value, at rows at which clusters were measured."""
    nothing: Mapping[str, Any] = {}
    last = rows[-1] if rows else nothing
    first = next((row for row in rows if row["step"] == 0), nothing)
    near_end = [nothing, *(row for row in rows[1:-1] if row["step"] <= 0.8 * last["step"])][-1]
    n_layer = _deepest(rows)
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
