"""Agreement of two labellings over pairs, on labellings whose agreement is known and against scikit-learn's."""

import math
import subprocess
import sys
from itertools import product
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, rand_score

from taskcluster.measures import agreement
from taskcluster.measures.agreement import (
    adjusted_rand_index,
    adjusted_rand_indices,
    ari_for_fixed_k,
    chance_together,
    normalized_mutual_information,
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


@settings(max_examples=200, deadline=None)
@given(labels=st.lists(st.tuples(st.integers(-3, 9), st.integers(0, 5)), min_size=1, max_size=80))
def test_the_normalized_mutual_information_is_scikit_learns(labels: list[tuple[int, int]]) -> None:
    truth, found = torch.tensor(labels).T
    assert normalized_mutual_information(truth, found) == normalized_mutual_info_score(truth, found)


@pytest.mark.parametrize("n_groups", [1, 2, 50, 1900])
def test_nor_does_it_differ_in_a_bit_for_as_many_states_as_a_measurement_has(n_groups: int) -> None:
    random = np.random.default_rng(n_groups)
    truth = torch.from_numpy(random.integers(0, n_groups, 2000))
    for share in (0.0, 0.3, 0.9, 1.0):
        found = torch.where(torch.from_numpy(random.random(2000) < share), truth, torch.randint(60, (2000,)))
        assert normalized_mutual_information(truth, found) == normalized_mutual_info_score(truth, found)


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


def mixed_up(labels: torch.Tensor, among: torch.Tensor, n: int) -> torch.Tensor:
    return torch.cat([*permuted(labels, among, n, torch.Generator().manual_seed(0))])


def test_permutations_keep_sizes_and_stay_among_their_own() -> None:
    x = torch.arange(240) % 4
    mixed = mixed_up(TASKS, x, 50)
    assert mixed.shape == (51, 240)
    assert torch.equal(mixed[0], TASKS)
    for value in range(4):
        own = TASKS[x == value].sort().values
        assert torch.equal(mixed[:, x == value].sort(1).values, own.expand(51, -1))
    assert len(mixed.unique(dim=0)) == 51


def test_every_permutation_is_as_likely() -> None:
    mixed = mixed_up(torch.arange(3), torch.zeros(3), 6000)[1:]
    counts = mixed.unique(dim=0, return_counts=True)[1]
    assert len(counts) == 6
    assert counts.min() > 850


def test_many_at_once_are_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = mixed_up(TASKS, torch.zeros(240), 30)
    found = adjusted_rand_indices(mixed, RANDOM)
    assert found == pytest.approx([adjusted_rand_index(row, RANDOM) for row in mixed])
    monkeypatch.setattr("taskcluster.measures.agreement.ROOM", 500)
    assert (adjusted_rand_indices(mixed, RANDOM) == found).all()
    assert adjusted_rand_indices(torch.zeros(3, 1, dtype=torch.long), RANDOM[:1]).tolist() == [1, 1, 1]


def test_permutations_made_in_parts_are_those_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mixed_up(TASKS, RANDOM, 30)
    monkeypatch.setattr(agreement, "ROOM", 1_000)
    assert len([*permuted(TASKS, RANDOM, 30, torch.Generator())]) == 9
    assert torch.equal(mixed_up(TASKS, RANDOM, 30), whole)


@settings(max_examples=100, deadline=None)
@given(labels=st.lists(st.tuples(st.integers(-3, 90), st.integers(0, 90)), min_size=1, max_size=80))
def test_without_a_table_the_numbers_are_the_same(labels: list[tuple[int, int]]) -> None:
    truth, found = torch.tensor(labels).T
    rows = torch.stack([truth, truth.flip(0)]).unique(return_inverse=True)[1]
    expected = agreement.pairs(truth, found), adjusted_rand_indices(rows, found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "_is_sparse", lambda n_cells, n: True)
        assert agreement.pairs(truth, found) == expected[0]
        assert (adjusted_rand_indices(rows, found) == expected[1]).all()


@pytest.mark.parametrize(("n", "k"), [(500, 2), (400, 30), (900, 600), (300, 298), (300, 299), (300, 300)])
def test_where_counting_is_too_long_the_saddle_point_is_as_good(n: int, k: int) -> None:
    exact = chance_together.__wrapped__(n, k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "EXACTLY", 0)
        assert chance_together.__wrapped__(n, k) == pytest.approx(exact, rel=1e-6, abs=0 if k < n / 2 else 5e-6)


LARGE = """
import sys
import torch
from sklearn.metrics import adjusted_rand_score
from taskcluster.measures.agreement import adjusted_rand_index, adjusted_rand_indices, ari_for_fixed_k, permuted


def peak():  # of the memory that this process has held since it was asked to forget, in bytes
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024


n, k = 300_000, 10_000
random = torch.Generator().manual_seed(0)
truth = torch.randint(k, (n,), generator=random)
labels = torch.where(torch.rand(n, generator=random) < 0.7, truth, torch.randint(k, (n,), generator=random))
expected = adjusted_rand_score(truth, labels)
open("/proc/self/clear_refs", "w").write("5")
before = peak()
found = adjusted_rand_index(truth, labels)
rows = [adjusted_rand_indices(part, labels) for part in permuted(truth, torch.zeros(n), 5, random)]
fixed = ari_for_fixed_k(truth, labels)
print(found == expected, rows[0][0], abs(rows[1]).max() < 1e-3, fixed, (peak() - before) / n)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no peak memory of a process on this system")
def test_ten_thousand_clusters_take_memory_for_their_states_alone() -> None:
    """A table of 10,000 x 10,000 would take 2,667 bytes for each of the 300,000 states."""
    words = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True).stdout.split()
    assert words[0] == words[2] == "True"
    assert 0.45 < float(words[1]) < 0.55
    assert float(words[3]) == pytest.approx(float(words[1]), abs=1e-3)
    assert float(words[4]) < 400  # one run had 210
