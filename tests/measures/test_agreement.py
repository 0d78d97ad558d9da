"""Agreement of two labellings over pairs, on labellings whose agreement is known and against scikit-learn's."""

import math
from itertools import product
from statistics import fmean

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, rand_score

from taskcluster.measures.agreement import (
    adjusted_rand_index,
    adjusted_rand_indices,
    ari_for_fixed_k,
    chance_together,
    permuted,
    split_by_part,
)

REGEXES = torch.arange(12).repeat_interleave(20)
TASKS = REGEXES // 3  # three regexes a task
RANDOM = torch.from_numpy(np.random.default_rng(0).integers(0, 6, 240))


@settings(max_examples=200, deadline=None)
@given(labels=st.lists(st.tuples(st.integers(-3, 9), st.integers(0, 5)), min_size=1, max_size=80))
def test_the_adjusted_rand_index_is_scikit_learns(labels: list[tuple[int, int]]) -> None:
    truth, found = torch.tensor(labels).T
    assert adjusted_rand_index(truth, found) == adjusted_rand_score(truth, found)


def test_clusters_of_regexes_score_within_them_and_not_across() -> None:
    within, across = split_by_part(TASKS, REGEXES, REGEXES)
    assert within == 1
    assert across <= 0
    assert 0 < adjusted_rand_index(TASKS, REGEXES) < 1


def test_clusters_of_tasks_score_within_regexes_and_across() -> None:
    assert split_by_part(TASKS, REGEXES, TASKS) == (1, 1)


def test_clusters_of_neither_score_about_zero() -> None:
    assert split_by_part(TASKS, REGEXES, RANDOM) == pytest.approx((0, 0), abs=0.02)


def test_with_one_regex_a_task_within_is_the_ari_and_across_is_undefined() -> None:
    for labels in (RANDOM, TASKS, REGEXES // 2):
        within, across = split_by_part(TASKS, TASKS, labels)
        assert within == adjusted_rand_score(TASKS, labels)
        assert math.isnan(across)


def test_the_split_is_kappa_over_the_pairs_that_are_left() -> None:
    """By listing every pair."""
    tasks, regexes, labels = TASKS[::7], REGEXES[::7], RANDOM[::7]
    every = torch.combinations(torch.arange(len(tasks))).T
    same_task, same_regex, together = (of[every[0]] == of[every[1]] for of in (tasks, regexes, labels))
    for found, kept in zip(split_by_part(tasks, regexes, labels), (same_regex | ~same_task, ~same_regex), strict=True):
        truth, found_together = same_task[kept].double(), together[kept].double()
        agreed = float((truth == found_together).double().mean())
        p, q = float(truth.mean()), float(found_together.mean())
        chance = p * q + (1 - p) * (1 - q)
        assert found == pytest.approx((agreed - chance) / (1 - chance))


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_the_correction_for_a_fixed_k_is_the_mean_over_all_clusterings(k: int) -> None:
    truth = torch.tensor([0, 0, 0, 1, 1, 2])
    every = [labels for labels in product(range(k), repeat=6) if len({*labels}) == k]
    expected = fmean(rand_score(truth, labels) for labels in every)
    assert fmean(labels[0] == labels[1] for labels in every) == pytest.approx(chance_together(6, k))
    for labels in every[:: max(1, len(every) // 20)]:
        found = ari_for_fixed_k(truth, torch.tensor(labels))
        assert found == pytest.approx((rand_score(truth, labels) - expected) / (1 - expected))
    if k == 3:
        assert ari_for_fixed_k(truth, truth) == 1


def test_many_states_in_clusters_are_together_as_often_as_there_are_clusters() -> None:
    assert chance_together(2000, 50) == pytest.approx(1 / 50)


def test_permutations_keep_sizes_and_stay_among_their_own() -> None:
    x = torch.arange(240) % 4
    mixed = permuted(TASKS, x, 50, torch.Generator().manual_seed(0))
    assert mixed.shape == (51, 240)
    assert torch.equal(mixed[0], TASKS)
    for value in range(4):
        own = TASKS[x == value].sort().values
        assert torch.equal(mixed[:, x == value].sort(1).values, own.expand(51, -1))
    assert len(mixed.unique(dim=0)) == 51


def test_every_permutation_is_as_likely() -> None:
    mixed = permuted(torch.arange(3), torch.zeros(3), 6000, torch.Generator().manual_seed(0))[1:]
    counts = mixed.unique(dim=0, return_counts=True)[1]
    assert len(counts) == 6
    assert counts.min() > 850


def test_many_at_once_are_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = permuted(TASKS, torch.zeros(240), 30, torch.Generator().manual_seed(0))
    found = adjusted_rand_indices(mixed, RANDOM)
    assert found == pytest.approx([adjusted_rand_index(row, RANDOM) for row in mixed])
    monkeypatch.setattr("taskcluster.measures.agreement.ROOM", 500)
    assert (adjusted_rand_indices(mixed, RANDOM) == found).all()
    assert adjusted_rand_indices(torch.zeros(3, 1, dtype=torch.long), RANDOM[:1]).tolist() == [1, 1, 1]
