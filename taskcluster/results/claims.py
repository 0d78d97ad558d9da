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

LEARNED = 0.25  # rise of the accuracy, more than x alone explains
RISE = 0.1  # smallest rise of a curve that emerges

DIFFERENCE = (0.0, ARI.range[1] - ARI.range[0])  # absolute difference of two ARIs
CORRELATION = (-1.0, 1.0)
WORDS = {True: "pass", False: "FAIL"}


@dataclass(frozen=True)
class Claim:
    """`value` must be on the right side of `threshold` ("<" or ">", as `relation` says). range: the least and the
    greatest value that it can take. undecided: why it neither holds nor fails, "" if the value decides.
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


CLAIMS = (  # the first two are about where a curve starts and ends, the others about the shape of its rise
    Claim("starts near 0 (largest ARI at step 0, all layers)", "near 0", math.nan, "<", 0.1, ARI.range),
    Claim("ends high on validation (last layer)", "above 0.6", math.nan, ">", 0.6, ARI.range),
    Claim(
        "saturates (change of the last layer over the last fifth)", "flat at the end", math.nan, "<", 0.1, DIFFERENCE
    ),
    Claim(
        "deeper layers are higher (rank correlation of layer and final ARI)",
        "rises with depth",
        math.nan,
        ">",
        0.8,
        CORRELATION,
    ),
    Claim("layer 0 stays flat (range of its ARI)", "flat", math.nan, "<", 0.05, DIFFERENCE),
    Claim("holds on unseen instructions (last layer, |train - validation|)", "close", math.nan, "<", 0.1, DIFFERENCE),
    Claim("rises with accuracy (rank correlation over training)", "rises together", math.nan, ">", 0.8, CORRELATION),
)


def judge(rows: Rows) -> list[Claim]:
    """The verdict on every claim for a journal whose last row is the final step.

    Rows may be missing: those before the checkpoint of another run from which this one started, which may be its last.
    The claims are about rows at which clusters were measured; without such a measure, about none.

    A claim is decided only if its precondition is met. Claims about where the curve starts and ends: accuracy rose by
    LEARNED, or the last layer's ARI by RISE. Claims about the shape of a rise: both rose; a curve that fell back by the
    end can fail them, not pass.
    """
    rows = [row for row in rows if ARI.at("val", 0) in row]
    accuracy = [number(row, ACCURACY.stem("val")) for row in rows]
    layers = [layers_of(row, ARI.stem("val")) for row in rows]
    learned = _no_rise(accuracy, LEARNED, "accuracy")
    clustered = _no_rise([values[-1] for values in layers], RISE, "the ARI of the last layer")
    untested, fell_back = (one or other for one, other in zip(learned, clustered, strict=True))
    claims = []
    for k, (claim, value) in enumerate(zip(CLAIMS, _values(rows, accuracy, layers), strict=True)):
        judged = replace(claim, value=value)
        shape_untested = untested or (fell_back if judged.passed else "")
        why = (learned[0] and clustered[0]) if k < 2 else shape_untested
        claims.append(replace(judged, undecided=why or ("not measured" if math.isnan(value) else "")))
    return claims


def _no_rise(curve: Sequence[float], least: float, name: str) -> tuple[str, str]:
    """Return why a curve did not rise by `least` at any step, and why not by the end; "" if it did."""
    if len(curve) < 2:
        return ("measured at one step only",) * 2
    values = [value for value in curve if math.isfinite(value)] or [math.nan]
    if not max(values) - values[0] >= least:
        return (f"{name} did not rise by {least:g}",) * 2
    return "", "" if values[-1] - values[0] >= least else f"{name} fell back by the end"


def _values(rows: Rows, accuracy: Sequence[float], layers: Sequence[Sequence[float]]) -> list[float]:
    """The value of every claim, from rows at which clusters were measured, with their accuracy and ARI by layer."""
    if not rows:
        return [math.nan] * len(CLAIMS)
    deepest = [values[-1] for values in layers]
    first = [value for split in ("train", "val") for value in layers_of(rows[0], ARI.stem(split))]
    near_end = [k for k, row in enumerate(rows) if 0 < k < len(rows) - 1 and row["step"] <= 0.8 * rows[-1]["step"]]
    return [
        float(np.max(first)) if rows[0]["step"] == 0 else math.nan,
        deepest[-1],
        abs(deepest[-1] - deepest[near_end[-1]]) if near_end else math.nan,
        rank_correlation(range(len(layers[-1])), layers[-1]),
        float(np.ptp([values[0] for values in layers])) if len(rows) > 1 else math.nan,
        abs(number(rows[-1], ARI.at("train", len(layers[-1]) - 1)) - deepest[-1]),
        rank_correlation(accuracy, deepest),
    ]


def emergence(steps: Sequence[int], values: Sequence[float]) -> float:
    """The step at which values have made half of their way from the first to the last, between measured steps on a
    straight line; NaN where they rise by less than RISE.
    """
    if not values or not values[-1] - values[0] >= RISE:
        return math.nan
    half = (values[0] + values[-1]) / 2
    k = next(k for k, value in enumerate(values) if value >= half)
    return steps[k - 1] + (steps[k] - steps[k - 1]) * (half - values[k - 1]) / (values[k] - values[k - 1])


def judged(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the claims; [] if none is decided."""
    claims: list[dict[str, Any]] = results.get("claims", [])
    return claims if any(claim["passed"] is not None for claim in claims) else []


def verdict(claim: Mapping[str, Any]) -> str:
    """ "pass", "FAIL", or why a claim is not decided, if its record says that."""
    why = claim.get("undecided")
    return WORDS.get(claim["passed"]) or ("not decided" + (f": {why}" if why else ""))


def held(passed: Sequence[bool | None]) -> str:
    """Count the decided verdicts that hold, and those not decided: "4 of 5, 1 not decided"."""
    decided = [one for one in passed if one is not None]
    parts = [f"{sum(decided)} of {len(decided)}"] if decided else []
    parts += [f"{len(passed) - len(decided)} not decided"] if len(decided) < len(passed) else []
    return ", ".join(parts) or "-"
