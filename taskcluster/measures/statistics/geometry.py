"""Distances between states: the silhouette of a labelling, and how many labels nearest neighbours predict.

in:  states (N, D), labels (N,)
out: one number, in float64 whatever the precision of the states
"""

import math

import torch
from sklearn import config_context
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

MEMORY = 32  # MiB of distances held at once


def silhouette(states: Tensor, labels: Tensor) -> float:
    """The mean silhouette (Rousseeuw, 1987) of labels (N,) of states (N, D). NaN with one cluster, or as many as
    states, or where a state is not finite."""
    if not bool(states.isfinite().all()) or not 1 < len(labels.unique()) < len(labels):
        return math.nan
    with config_context(working_memory=MEMORY):
        return float(silhouette_score(states.cpu().double().numpy(), labels.numpy()))


def neighbour_accuracy(states: Tensor, labels: Tensor, n_neighbors: int, among: Tensor | None = None) -> float:
    """The share of states (N, D) whose label (N,) is that of most of their nearest others (leave-one-out).

    Ties go to the label of the nearest. among (N,): neighbours are those for which it agrees. States that have no other
    of their label there cannot be right and are left out; NaN with none left, or where a state is not finite.
    """
    if not bool(states.isfinite().all()):
        return math.nan
    wide, right, possible = states.detach().cpu().double(), 0, 0
    group = torch.zeros_like(labels) if among is None else among
    for rows in (group[:, None] == group.unique()).T:
        n, classes = int(rows.sum()), labels[rows].unique(return_inverse=True)[1]
        if n == 1:
            continue
        k = min(n_neighbors, n - 1)
        with config_context(working_memory=MEMORY):
            nearest = NearestNeighbors(n_neighbors=k).fit(wide[rows].numpy()).kneighbors(return_distance=False)
        # The nearest outweighs all others of a tie, and none outweighs a vote.
        votes = (1 + 0.5 ** torch.arange(2, k + 2).double()).expand(n, -1)
        counts = wide.new_zeros(n, int(classes.max()) + 1).scatter_add_(1, classes[torch.as_tensor(nearest)], votes)
        can = torch.bincount(classes)[classes] > 1
        right += int(((counts.argmax(1) == classes) & can).sum())
        possible += int(can.sum())
    return right / possible if possible else math.nan
