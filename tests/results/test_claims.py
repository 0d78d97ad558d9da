"""Verdicts on journals whose verdicts are known."""

import math
from typing import Any

import pytest

from taskcluster.results.claims import judge

LAYERS = (0.05, 0.4, 0.7, 0.9)  # final validation ARI of layers 0 to 3


def journal(final: tuple[float, ...] = LAYERS, start: float = 0.05, train_gap: float = 0.02) -> list[dict[str, Any]]:
    """Five measurements in which every layer but the embedding climbs from `start` to its final ARI."""
    rows = []
    for step, progress in ((0, 0.0), (50, 0.3), (100, 0.7), (150, 0.98), (200, 1.0)):
        row: dict[str, Any] = {"step": step, "val/accuracy": progress}
        for layer, end in enumerate(final):
            value = start + progress * (end - start)
            row[f"ari/val/layer_{layer}"] = value
            row[f"ari/train/layer_{layer}"] = value + train_gap * progress
        rows.append(row)
    return rows


def verdicts(rows: list[dict[str, Any]]) -> list[bool]:
    return [claim.passed for claim in judge(rows)]


def test_a_journal_like_the_papers_passes_every_claim() -> None:
    claims = judge(journal())
    assert all(claim.passed for claim in claims)
    assert [claim.value for claim in claims] == pytest.approx([0.05, 0.9, 0.017, 1.0, 0.0, 0.02, 1.0])


@pytest.mark.parametrize(
    ("failing", "rows"),
    [
        (0, journal(start=0.12, final=(0.12, 0.4, 0.7, 0.9))),
        (1, journal(final=(0.05, 0.3, 0.4, 0.55))),
        (2, [*journal()[:3], {**journal()[3], "ari/val/layer_3": 0.75}, journal()[4]]),
        (3, journal(final=(0.05, 0.9, 0.8, 0.7))),
        (4, journal(final=(0.2, 0.4, 0.7, 0.9))),
        (5, journal(train_gap=0.15)),
        (6, [{**row, "val/accuracy": -row["val/accuracy"]} for row in journal()]),
    ],
)
def test_each_claim_can_fail_alone(failing: int, rows: list[dict[str, Any]]) -> None:
    assert verdicts(rows) == [k != failing for k in range(7)]


def test_numbers_that_are_missing_or_undefined_fail() -> None:
    rows = journal()
    for row in rows:
        row["val/accuracy"] = 0.0
    rows[-1]["ari/val/layer_3"] = None
    claims = judge(rows)
    assert math.isnan(claims[1].value)
    assert not claims[1].passed
    assert not claims[6].passed


def test_a_single_block_can_be_judged() -> None:
    assert all(verdicts(journal(final=(0.05, 0.9))))
