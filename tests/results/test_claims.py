"""Verdicts on journals whose verdicts are known."""

import math
from typing import Any

import pytest

from taskcluster.results.claims import emergence, held, judge, judged, verdict

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


def verdicts(rows: list[dict[str, Any]]) -> list[bool | None]:
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
        (6, [{**row, "val/accuracy": a} for row, a in zip(journal(), (0.0, 1.0, 0.9, 0.8, 0.7), strict=True)]),
    ],
)
def test_each_claim_can_fail_alone(failing: int, rows: list[dict[str, Any]]) -> None:
    assert verdicts(rows) == [k != failing for k in range(7)]


def test_undefined_numbers_decide_nothing() -> None:
    rows = journal()
    rows[-1]["ari/val/layer_3"] = None
    claims = judge(rows)
    assert math.isnan(claims[1].value)
    assert (claims[1].passed, claims[1].undecided) == (None, "not measured")


def test_a_curve_emerges_where_it_has_made_half_of_its_way() -> None:
    assert emergence([0, 100, 200], [0.0, 0.2, 1.0]) == pytest.approx(100 + 100 * 0.3 / 0.8)
    assert math.isnan(emergence([0, 100], [0.5, 0.55]))
    assert math.isnan(emergence([0, 100], [math.nan, 0.9]))


def run(accuracy: list[float | None], deepest: list[float | None]) -> list[dict[str, Any]]:
    """A journal of these values, whose other layers go from 0.05 towards the last one."""
    rows: list[dict[str, Any]] = [{"step": 50 * k, "val/accuracy": value} for k, value in enumerate(accuracy)]
    for row, ari in zip(rows, deepest, strict=True):
        for layer, share in enumerate((0, 0.5, 1)):
            value = None if ari is None else 0.05 + share * (ari - 0.05)
            row |= {f"ari/{split}/layer_{layer}": value for split in ("train", "val")}
    return rows


STARTS, HIGH, SATURATES, DEEPER, FLAT, UNSEEN, TOGETHER = range(7)
SHAPE = (SATURATES, DEEPER, FLAT, UNSEEN, TOGETHER)
LEARNED = [0.0, 0.5, 0.9, 0.95, 0.98]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        run([0.9], [0.8]),
        run([0.5, 0.5], [0.8, 0.8]),
        run([0.02] * 5, [0.06, 0.05, 0.06, 0.07, 0.06]),
        run([0.0, 0.02, 0.05, 0.08, 0.09], [0.05, 0.06, 0.08, 0.1, 0.12]),
        run([0.4, 0.41, 0.42, 0.42, 0.43], [0.8, 0.81, 0.83, 0.8, 0.82]),
        run([None] * 5, [None] * 5),
        run([None] * 5, [0.05, 0.06, 0.05, 0.06, 0.05]),
        run([0.9, 0.7, 0.5, 0.3, 0.1], [0.9, 0.7, 0.5, 0.3, 0.05]),
    ],
    ids=["empty", "one row", "flat", "untrained", "barely", "pretrained", "unmeasured", "no accuracy", "falling"],
)
def test_where_nothing_rose_nothing_is_decided(rows: list[dict[str, Any]]) -> None:
    claims = judge(rows)
    assert {claim.passed for claim in claims} == {None}
    assert all(claim.undecided for claim in claims)


@pytest.mark.parametrize(
    ("accuracy", "deepest", "ends", "why"),
    [
        (LEARNED, [0.05, 0.06, 0.07, 0.06, 0.08], (True, False), "the ARI of the last layer did not rise by 0.1"),
        ([0.02] * 5, [0.05, 0.3, 0.6, 0.7, 0.72], (True, True), "accuracy did not rise by 0.25"),
        ([0.3, 0.5, 0.8, 0.9, 0.9], [0.8, 0.82, 0.84, 0.85, 0.85], (False, True), "the ARI of the last layer"),
    ],
    ids=["accuracy alone", "clusters alone", "clusters before training"],
)
def test_where_one_curve_rose_only_the_ends_are_decided(
    accuracy: list[float | None], deepest: list[float | None], ends: tuple[bool, bool], why: str
) -> None:
    claims = judge(run(accuracy, deepest))
    assert (claims[STARTS].passed, claims[HIGH].passed) == ends
    assert {claims[k].passed for k in SHAPE} == {None}
    assert all(claims[k].undecided.startswith(why) for k in SHAPE)
    assert math.isfinite(claims[SATURATES].value)  # which stays beside the verdict


@pytest.mark.parametrize(
    ("accuracy", "deepest", "failed", "undecided"),
    [
        (LEARNED, [0.05, 0.5, 0.9, 0.06, 0.05], HIGH, SATURATES),  # flat at the end, at the bottom
        (LEARNED, [0.05, 0.5, 0.9, 0.9, 0.05], SATURATES, DEEPER),
        ([0.0, 0.5, 0.9, 0.1, 0.0], [0.05, 0.5, 0.9, 0.1, 0.05], HIGH, TOGETHER),  # they fell together
    ],
)
def test_a_run_that_rises_and_falls_passes_no_claim_about_a_rise(
    accuracy: list[float | None], deepest: list[float | None], failed: int, undecided: int
) -> None:
    passed = verdicts(run(accuracy, deepest))
    assert passed[failed] is False
    assert passed[undecided] is None
    assert not any(passed[k] for k in SHAPE)


def test_saturation_needs_a_measurement_between_the_first_and_the_last() -> None:
    assert verdicts([journal()[0], journal()[-1]]) == [True, True, None, *[True] * 4]


def test_verdicts_in_words() -> None:
    passed: list[list[bool | None]] = [[True, False, True], [True, None, False, None], [None, None], []]
    assert [held(one) for one in passed] == ["2 of 3", "1 of 2, 2 not decided", "2 not decided", "-"]
    old, why = {"passed": None}, {"passed": None, "undecided": "not measured"}
    words = [verdict(claim) for claim in (old, why, {"passed": True}, {"passed": False})]
    assert words == ["not decided", "not decided: not measured", "pass", "FAIL"]
    assert judged({"claims": [old]}) == judged({}) == []
    assert judged({"claims": [old, {"passed": False}]}) == [old, {"passed": False}]
