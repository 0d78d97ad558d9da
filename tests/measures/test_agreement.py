"""Agreement of two labellings over pairs, on labellings whose agreement is known and against scikit-learn's."""

import math
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, rand_score

from taskcluster.measures.statistics import agreement
from taskcluster.measures.statistics.agreement import (
    adjusted_mutual_information,
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
    truth, clusters = torch.tensor(labels).T
    assert adjusted_rand_index(truth, clusters) == adjusted_rand_score(truth, clusters)


@settings(max_examples=200, deadline=None)
@given(labels=st.lists(st.tuples(st.integers(-3, 9), st.integers(0, 5)), min_size=1, max_size=80))
def test_the_adjusted_mutual_information_is_scikit_learns(labels: list[tuple[int, int]]) -> None:
    truth, clusters = torch.tensor(labels).T
    expected = adjusted_mutual_info_score(truth, clusters)
    assert adjusted_mutual_information(truth, clusters) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n_groups", "n_clusters"), [(2, 3), (2, 2_000), (300, 300), (1_000, 50)])
def test_the_adjusted_mutual_information_of_many_states_is_scikit_learns(n_groups: int, n_clusters: int) -> None:
    random = np.random.default_rng(0)
    truth, noise = random.integers(0, n_groups, 20_000), random.integers(0, n_clusters, 20_000)
    clusters = np.where(random.random(20_000) < 0.5, truth % n_clusters, noise)
    expected = adjusted_mutual_info_score(truth, clusters)
    assert 0.01 < expected < 0.9
    found = adjusted_mutual_information(torch.from_numpy(truth), torch.from_numpy(clusters))
    assert found == pytest.approx(expected, abs=1e-9)


def test_the_adjusted_mutual_information_of_ten_thousand_clusters_takes_no_time_to_speak_of() -> None:
    """scikit-learn goes through all 10,000 x 10,000 pairs of clusters."""
    truth = torch.randint(10_000, (100_000,), generator=torch.Generator().manual_seed(0))
    started = time.process_time()
    assert adjusted_mutual_information(truth, truth.roll(1)) == pytest.approx(0, abs=0.01)
    assert time.process_time() - started < 5


def test_the_split_tells_clusters_of_regexes_from_clusters_of_tasks() -> None:
    within, across = split_by_part(TASKS, REGEXES, REGEXES)
    assert within == 1
    assert across <= 0
    assert split_by_part(TASKS, REGEXES, TASKS) == (1, 1)
    assert split_by_part(TASKS, REGEXES, RANDOM) == pytest.approx((0, 0), abs=0.02)
    one_regex_per_task = (adjusted_rand_score(TASKS, RANDOM), math.nan)
    assert split_by_part(TASKS, TASKS, RANDOM) == pytest.approx(one_regex_per_task, nan_ok=True)


def test_the_split_is_kappa_over_the_remaining_pairs() -> None:
    """By listing every pair."""
    tasks, regexes, labels = TASKS[::7], REGEXES[::7], RANDOM[::7]
    every = torch.combinations(torch.arange(len(tasks))).T
    same_task, same_regex, together = (values[every[0]] == values[every[1]] for values in (tasks, regexes, labels))
    split = split_by_part(tasks, regexes, labels)
    for score, kept in zip(split, (same_regex | ~same_task, ~same_regex), strict=True):
        truth, clustered = same_task[kept].double(), together[kept].double()
        agreed = float((truth == clustered).double().mean())
        p, q = float(truth.mean()), float(clustered.mean())
        chance = p * q + (1 - p) * (1 - q)
        assert score == pytest.approx((agreed - chance) / (1 - chance))


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_the_correction_for_a_fixed_k_is_the_mean_over_all_clusterings(k: int) -> None:
    truth = torch.tensor([0, 0, 0, 1, 1, 2])
    every = [labels for labels in product(range(k), repeat=6) if len({*labels}) == k]
    expected = fmean(rand_score(truth, labels) for labels in every)
    assert fmean(labels[0] == labels[1] for labels in every) == pytest.approx(chance_together(6, k))
    for labels in every[:: max(1, len(every) // 20)]:
        score = ari_for_fixed_k(truth, torch.tensor(labels))
        assert score == pytest.approx((rand_score(truth, labels) - expected) / (1 - expected))


@pytest.mark.parametrize(("n", "k"), [(500, 2), (400, 30), (900, 600), (300, 298), (300, 299), (300, 300)])
def test_saddle_points_are_as_good_as_counting(n: int, k: int) -> None:
    exact = chance_together.__wrapped__(n, k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "EXACTLY", 0)
        assert chance_together.__wrapped__(n, k) == pytest.approx(exact, rel=1e-6, abs=0 if k < n / 2 else 5e-6)


def shuffles(labels: torch.Tensor, among: torch.Tensor, n: int) -> torch.Tensor:
    return torch.cat([*permuted(labels, among, n, torch.Generator().manual_seed(0))])


def test_permutations_keep_sizes_and_stay_inside_their_group() -> None:
    x = torch.arange(240) % 4
    mixed = shuffles(TASKS, x, 50)
    assert torch.equal(mixed[0], TASKS)
    for value in range(4):
        expected = TASKS[x == value].sort().values
        assert torch.equal(mixed[:, x == value].sort(1).values, expected.expand(51, -1))
    assert len(mixed.unique(dim=0)) == 51


def test_all_permutations_are_equally_likely() -> None:
    counts = shuffles(torch.arange(3), torch.zeros(3), 6000)[1:].unique(dim=0, return_counts=True)[1]
    assert len(counts) == 6
    assert counts.min() > 850


def test_permutations_in_parts_score_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = shuffles(TASKS, RANDOM, 30)
    scores = adjusted_rand_indices(mixed, RANDOM)
    assert scores == pytest.approx([adjusted_rand_index(row, RANDOM) for row in mixed])
    monkeypatch.setattr(agreement, "ROOM", 500)
    assert torch.equal(shuffles(TASKS, RANDOM, 30), mixed)
    assert (adjusted_rand_indices(mixed, RANDOM) == scores).all()


LARGE = """
import torch
from sklearn.metrics import adjusted_rand_score
from taskcluster.measures.statistics.agreement import adjusted_rand_index, adjusted_rand_indices
from taskcluster.measures.statistics.agreement import ari_for_fixed_k, permuted


def peak():  # bytes of memory since the last reset
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024


n, k = 300_000, 10_000
random = torch.Generator().manual_seed(0)
truth = torch.randint(k, (n,), generator=random)
labels = torch.where(torch.rand(n, generator=random) < 0.7, truth, torch.randint(k, (n,), generator=random))
expected = adjusted_rand_score(truth, labels)
open("/proc/self/clear_refs", "w").write("5")
before = peak()
score = adjusted_rand_index(truth, labels)
rows = [adjusted_rand_indices(part, labels) for part in permuted(truth, torch.zeros(n), 5, random)]
fixed = ari_for_fixed_k(truth, labels)
print(score == expected, rows[0][0], abs(rows[1]).max() < 1e-3, fixed, (peak() - before) / n)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no peak memory of a process on this system")
def test_ten_thousand_clusters_take_memory_for_their_states_alone() -> None:
    """A table of 10,000 x 10,000 would take 2,667 bytes for each of the 300,000 states."""
    words = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True).stdout.split()
    assert words[0] == words[2] == "True"
    assert float(words[3]) == pytest.approx(float(words[1]), abs=1e-3)
    assert float(words[4]) < 400  # one run had 210
