"""Distances between states: silhouettes, and labels told by nearest neighbours. Tensors in, numbers out.

in:  states (N, D), labels (N,)
out: one number, in float64 whatever the precision of the states

Distances are computed for a number of rows at a time that bounds what is held.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

ROOM = 2**20  # distances held at once: 8 MB


def silhouettes(states: Tensor, labellings: Sequence[Tensor]) -> list[float]:
    """The mean silhouette (Rousseeuw, 1987) of each of several labellings (N,) of states (N, D), as scikit-learn's
    silhouette_score: (b - a) / max(a, b), a the mean distance to the others of the own cluster, b that to the nearest
    other cluster; 0 for a state alone. NaN with one cluster, or as many as states, or where a state is not finite.
    """
    if not bool(states.isfinite().all()):
        return [math.nan] * len(labellings)
    dense = [labelling.unique(return_inverse=True)[1] for labelling in labellings]
    members = [torch.nn.functional.one_hot(labelling).double() for labelling in dense]
    widths, together = [of_labels.shape[1] for of_labels in members], torch.cat(members, 1)
    totals = [0.0] * len(labellings)
    for rows, distances in _distances(states):
        for k, sums in enumerate((distances @ together).split(widths, 1)):
            totals[k] += float(_silhouette(sums, members[k].sum(0), dense[k][rows]).sum())
    n = len(states)
    return [total / n if 1 < width < n else math.nan for total, width in zip(totals, widths, strict=True)]


def _silhouette(sums: Tensor, sizes: Tensor, own: Tensor) -> Tensor:
    """Of M states, (M,). sums (M, K): of their distances to each cluster; sizes (K,): of clusters; own (M,): theirs."""
    column = own[:, None]
    size = sizes[own]
    within = sums.gather(1, column)[:, 0] / (size - 1).clamp(min=1)
    nearest = (sums / sizes).scatter(1, column, torch.inf).min(1).values
    found = (nearest - within) / torch.maximum(nearest, within)
    return torch.where(size > 1, found.nan_to_num(0.0), 0.0)


def told_by_neighbours(states: Tensor, labels: Tensor, n_neighbors: int, among: Tensor | None = None) -> float:
    """How many of the states (N, D) have the label (N,) that most of their nearest others have (leave-one-out).

    Ties go to the label of the nearest. among (N,): neighbours are sought where it agrees. States that have no other of
    their label there cannot be right and are left out; NaN with none left, or where a state is not finite.
    """
    if not bool(states.isfinite().all()):
        return math.nan
    group = torch.zeros_like(labels) if among is None else among
    classes = labels.unique(return_inverse=True)[1]
    ranks = torch.arange(1, min(n_neighbors, len(states)) + 1)
    votes = 1 + 0.5 ** (ranks + 1).double()  # the nearest outweighs all others of a tie, and none outweighs a vote
    right, possible = 0, 0
    for rows, distances in _distances(states):
        there = group[rows, None] == group
        there[torch.arange(len(rows)), rows] = False
        nearest = distances.masked_fill(~there, torch.inf).topk(len(ranks), largest=False)
        weights = torch.where(nearest.values < torch.inf, votes, 0.0)
        counts = weights.new_zeros(len(rows), int(classes.max()) + 1).scatter_add_(1, classes[nearest.indices], weights)
        can = (there & (classes[rows, None] == classes)).any(1)
        right += int(((counts.argmax(1) == classes[rows]) & can).sum())
        possible += int(can.sum())
    return right / possible if possible else math.nan


def _distances(states: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows (M,) and their distances to all states, (M, N), for all rows in turn."""
    wide = states.detach().cpu().double()
    wide = wide - wide.mean(0)
    for rows in torch.arange(len(wide)).split(max(1, ROOM // len(wide))):
        distances = torch.cdist(wide[rows], wide, compute_mode="use_mm_for_euclid_dist")
        distances[torch.arange(len(rows)), rows] = 0.0
        yield rows, distances
