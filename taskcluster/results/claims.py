"""The paper's claims, each as a number, a threshold and a verdict. Journal rows in, Claims out.

Claims are those of Wu and Varshney, "Transformer-based Causal Language Models Perform Clustering" (NAACL Findings
2025), about the ARI between KMeans clusters and tasks at the end of the instruction; thresholds are ours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from taskcluster.metrics import ACCURACY, ARI
from taskcluster.results.correlations import rank_correlation
from taskcluster.runs.journal import layers_of, number

Rows = Sequence[Mapping[str, Any]]

LEARNED = 0.25  # rise of the accuracy, beyond what knowing x alone gives
RISE = 0.1  # a curve that rises by less does not emerge

DIFFERENCE = (0.0, ARI.range[1] - ARI.range[0])  # of two values of the ARI, without its sign
CORRELATION = (-1.0, 1.0)

CLAIMS = (  # name, in the paper, relation, threshold, range; the first two are about where a curve starts and ends
    ("starts near 0 (largest ARI at step 0, all layers)", "near 0", "<", 0.1, ARI.range),
    ("ends high on validation (last layer)", "above 0.6", ">", 0.6, ARI.range),
    ("saturates (change of the last layer over the last fifth)", "flat at the end", "<", 0.1, DIFFERENCE),
    ("deeper layers are higher (rank correlation of layer and final ARI)", "rises with depth", ">", 0.8, CORRELATION),
    ("layer 0 stays flat (range of its ARI)", "flat", "<", 0.05, DIFFERENCE),
    ("holds on unseen instructions (last layer, |train - validation|)", "close", "<", 0.1, DIFFERENCE),
    ("rises with accuracy (rank correlation over training)", "rises together", ">", 0.8, CORRELATION),
)


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
        if self.undecided or math.isnan(self.value):
            return None
        return self.value < self.threshold if self.relation == "<" else self.value > self.threshold


def judge(rows: Rows) -> list[Claim]:
    """The verdict on every claim for a journal whose last row is the final step.

    Rows may be missing: those before the checkpoint of another run from which this one started, which may be its last.
    The claims are about rows at which clusters were measured; without such a measure, about none.

    A claim is decided only if what it is about has happened. Where the curve starts and ends: if accuracy rose by
    LEARNED or the last layer's ARI by RISE. The others, which are about the shape of a rise: if both rose; and a curve
    that fell back by the end can fail them, not pass.
    """
    rows = [row for row in rows if ARI.at("val", 0) in row]
    accuracy = _no_rise(rows, ACCURACY.stem("val"), LEARNED, "accuracy")
    clusters = _no_rise(rows, ARI.at("val", _deepest(rows)), RISE, "the ARI of the last layer")
    untested, fell_back = (one or other for one, other in zip(accuracy, clusters, strict=True))
    claims = []
    for k, ((name, paper, relation, threshold, within), value) in enumerate(zip(CLAIMS, _values(rows), strict=True)):
        claim = Claim(name, paper, value, relation, threshold, within)
        of_ends, of_shape = accuracy[0] and clusters[0], untested or (fell_back if claim.passed else "")
        unknown = "not measured" if math.isnan(value) else ""
        claims.append(replace(claim, undecided=(of_ends if k < 2 else of_shape) or unknown))
    return claims


def _no_rise(rows: Rows, key: str, least: float, name: str) -> tuple[str, str]:
    """Why a curve did not rise by `least` at any step, and why it had not by the end; "" where it did."""
    if len(rows) < 2:
        return ("measured at one step alone",) * 2
    values = [value for value in _column(rows, key) if math.isfinite(value)] or [math.nan]
    if not max(values) - values[0] >= least:
        return (f"{name} did not rise by {least:g}",) * 2
    return "", "" if values[-1] - values[0] >= least else f"{name} fell back by the end"


def _values(rows: Rows) -> list[float]:
    """The value of every claim, at rows at which clusters were measured."""
    nothing: Mapping[str, Any] = {}
    last = rows[-1] if rows else nothing
    first = next((row for row in rows if row["step"] == 0), nothing)
    near_end = [nothing, *(row for row in rows[1:-1] if row["step"] <= 0.8 * last["step"])][-1]
    deepest = ARI.at("val", _deepest(rows))
    starts = [value for split in ("train", "val") for value in layers_of(first, ARI.stem(split))]
    end, ends = number(last, deepest), layers_of(last, ARI.stem("val"))
    return [
        float(np.max(starts)) if starts else math.nan,
        end,
        abs(end - number(near_end, deepest)),
        rank_correlation(range(len(ends)), ends),
        float(np.ptp(_column(rows, ARI.at("val", 0)))) if len(rows) > 1 else math.nan,
        abs(number(last, ARI.at("train", _deepest(rows))) - end),
        rank_correlation(_column(rows, ACCURACY.stem("val")), _column(rows, deepest)),
    ]


def emergence(steps: Sequence[int], values: Sequence[float]) -> float:
    """The step at which values have made half of their way from the first to the last, between measured steps on a
    straight line; NaN where they rise by less than RISE.
    """
    if not values[-1] - values[0] >= RISE:
        return math.nan
    half = (values[0] + values[-1]) / 2
    k = next(k for k, value in enumerate(values) if value >= half)
    return steps[k - 1] + (steps[k] - steps[k - 1]) * (half - values[k - 1]) / (values[k] - values[k - 1])


def _deepest(rows: Rows) -> int:
    return len(layers_of(rows[-1], ARI.stem("val"))) - 1 if rows else 0


def _column(rows: Rows, key: str) -> list[float]:
    return [number(row, key) for row in rows]
