"""Silhouettes and nearest neighbours: scikit-learn's numbers, and states whose answer is known."""

import math

import pytest
import torch
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

from taskcluster.measures import geometry
from taskcluster.measures.geometry import silhouettes, told_by_neighbours

RANDOM = torch.Generator().manual_seed(0)
TASKS = torch.arange(10).repeat_interleave(30)
CENTRES, NOISE = torch.randn(10, 16, generator=RANDOM), torch.randn(300, 16, generator=RANDOM)
PLANTED, MIXED = 20 * CENTRES[TASKS] + NOISE, 0.5 * CENTRES[TASKS] + NOISE


@pytest.mark.parametrize("room", [geometry.ROOM, 1000])
def test_silhouettes_are_scikit_learns(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "ROOM", room)
    alone = torch.where(torch.arange(300) == 7, 99, TASKS)  # a cluster of one state
    labellings = [TASKS, TASKS % 3 + 5, alone]
    for states in (PLANTED, MIXED, MIXED * 1e-6):
        expected = [silhouette_score(states.double().numpy(), labels.numpy()) for labels in labellings]
        assert silhouettes(states, labellings) == [pytest.approx(score, abs=1e-9) for score in expected]


def test_a_silhouette_needs_two_clusters_and_fewer_than_states() -> None:
    assert [math.isnan(s) for s in silhouettes(MIXED, [TASKS * 0, torch.arange(300), TASKS])] == [True, True, False]
    assert math.isnan(silhouettes(MIXED.masked_fill(MIXED > 2, torch.nan), [TASKS])[0])
    assert silhouettes(torch.ones(300, 4), [TASKS]) == [0]


def test_one_neighbour_is_scikit_learns_nearest_other() -> None:
    states = MIXED.double().numpy()
    other = NearestNeighbors(n_neighbors=2).fit(states).kneighbors(states)[1][:, 1]
    expected = float((TASKS.numpy()[other] == TASKS.numpy()).mean())
    assert 0.2 < expected < 0.9
    assert told_by_neighbours(MIXED, TASKS, 1) == expected


@pytest.mark.parametrize("n_neighbors", [1, 3, 10])
def test_planted_clusters_are_told_and_random_labels_are_not(n_neighbors: int) -> None:
    assert told_by_neighbours(PLANTED, TASKS, n_neighbors) == 1
    shuffled = TASKS[torch.randperm(300, generator=RANDOM)]
    assert told_by_neighbours(PLANTED, shuffled, n_neighbors) == pytest.approx(0.1, abs=0.06)


def test_within_x_neighbours_share_x_however_far_they_are() -> None:
    x = torch.arange(3).repeat(100)
    by_task = PLANTED + 1_000 * torch.eye(16)[TASKS % 3] * (x[:, None] == 0)
    assert told_by_neighbours(by_task, TASKS, 3, among=x) == 1
    closest = 1_000 * torch.eye(16)[x] + NOISE  # states of an x are together and say nothing else
    assert told_by_neighbours(closest, x, 3) == 1
    assert told_by_neighbours(closest, TASKS, 3, among=x) < 0.25


def test_votes_of_a_tie_go_to_the_nearest_and_counts_come_first() -> None:
    line = torch.tensor([[0.0], [1.0], [2.1], [3.3], [50.0], [60.0]])
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    # Of the first: 0, 1, 1, so 1 with three votes, and 0 with two, of which the nearest is one.
    assert told_by_neighbours(line[:4], labels[:4], 3) == 0
    assert told_by_neighbours(line[:2].repeat(2, 1) + line[[0, 0, 4, 4]], torch.tensor([0, 0, 1, 1]), 2) == 1


def test_a_state_without_another_of_its_label_is_left_out() -> None:
    labels = torch.where(torch.arange(300) == 7, 99, TASKS)
    assert told_by_neighbours(PLANTED, labels, 3) == 1
    assert math.isnan(told_by_neighbours(PLANTED, torch.arange(300), 1))
