"""Clusters that gain by it are split, and as many that lose little are merged (Kaukoranta, Fränti and Nevalainen,
"Iterative split-and-merge algorithm for vector quantization codebook generation", Optical Engineering 37, 1998).

in:  states, their labels (N,), and the clusters' sums (K, D) and sizes (K,)
out: the same, changed in place, with a lower inertia

Exchanges of single states move no centroid from where there are too many to where there are too few. Merging clusters
of n and m states whose means differ by v raises the inertia by n m / (n + m) |v|^2 (Ward, "Hierarchical Grouping to
Optimize an Objective Function", 1963), and splitting one into two such lowers it by as much.
"""

import torch
from torch import Tensor

from taskcluster.measures.clusterers.centred_states import ROOM, CentredStates, add_to

HALVINGS = 3  # iterations of a KMeans of two clusters inside each cluster


def split_and_merge(
    states: CentredStates, labels: Tensor, sums: Tensor, sizes: Tensor, errors: Tensor, random: torch.Generator
) -> float:
    """By how much the inertia falls. errors (N,): squared distances to the centroids of their clusters."""
    costs, partners = _merges(sums / sizes.clamp(min=1)[:, None], sizes)
    inertias = torch.zeros_like(sizes)
    add_to(inertias, labels, errors)
    which = ((inertias > costs.min()) & (sizes > 1))[labels].nonzero().squeeze(1)
    start = _drawn(labels, errors, which, random)
    side, half_sums, half_sizes, gains = _halves(states, labels, which, sums, sizes, start)
    (split, emptied, joined), lowered = _chosen(gains, costs, partners)
    merged = torch.arange(len(sizes), device=labels.device)
    merged[emptied] = joined
    half_of = torch.full_like(merged, -1)
    half_of[split] = emptied
    new = half_of[labels[which]]
    labels.copy_(merged[labels])
    away = side & (new >= 0)
    labels[which[away]] = new[away]
    moved = joined != emptied  # an empty cluster joins none
    for values, half in ((sums, half_sums), (sizes, half_sizes)):
        values[joined[moved]] += values[emptied[moved]]
        values[emptied] = half[split]
        values[split] -= half[split]
    return lowered


def _merges(means: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """What merging each cluster with another costs at least, and with which, (K,) each. Empty ones cost nothing, and
    are partners of themselves."""
    norms = torch.where(sizes > 0, means.square().sum(1), torch.inf)
    numbers, shares = torch.arange(len(means), device=means.device), 1 / sizes.clamp(min=1)
    costs, partners = torch.empty_like(norms), torch.empty_like(numbers)
    for rows in numbers.split(max(1, ROOM // len(means))):
        between = torch.addmm(norms, means[rows], means.T, alpha=-2).add_(norms[rows, None])
        between /= shares[rows, None] + shares
        between[rows - rows[0], rows] = torch.inf
        costs[rows], partners[rows] = between.min(1)
    return torch.where(sizes == 0, 0, costs.clamp(min=0)), torch.where(sizes == 0, numbers, partners)


def _drawn(labels: Tensor, errors: Tensor, which: Tensor, random: torch.Generator) -> Tensor:
    """One of the states `which` of each cluster, (K,), as likely as its error is large; -1 for clusters without."""
    drawn = torch.rand(len(which), generator=random, dtype=torch.float64).to(errors.device)
    weights = errors[which].double().clamp(min=torch.finfo(torch.float32).tiny)
    keys = weights.log() - (-drawn.clamp(min=1e-300).log()).log()  # the largest is drawn (Gumbel)
    n = int(labels.max()) + 1
    largest = keys.new_full((n,), -torch.inf).scatter_reduce_(0, labels[which], keys, "amax")
    first = (keys == largest[labels[which]]).nonzero().squeeze(1)
    return torch.full((n,), -1, device=labels.device).scatter_reduce(0, labels[which[first]], which[first], "amax")


def _halves(
    states: CentredStates, labels: Tensor, which: Tensor, sums: Tensor, sizes: Tensor, start: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The clusters of the states `which` (M,), each in two. start (K,): a state of each, or -1.

    Gives in which half each of the M states is, (M,); sums (K, D) and sizes (K,) of the half where this is true; and by
    how much the inertia falls, (K,).
    """
    means, clusters = sums / sizes.clamp(min=1)[:, None], labels[which]
    there = (start >= 0).nonzero().squeeze(1)
    direction = torch.zeros_like(means)
    direction[there] = states.rows(start[there]) - means[there]
    middle = (means * direction).sum(1)
    for _ in range(HALVINGS):
        side = states.products(direction, labels, which) > middle[clusters]
        part = torch.zeros_like(sums)
        states.add(part, labels, which[side])
        n = torch.bincount(clusters[side], minlength=len(sizes)).to(sizes)
        one, other = part / n.clamp(min=1)[:, None], (sums - part) / (sizes - n).clamp(min=1)[:, None]
        direction = one - other
        middle = (one.square().sum(1) - other.square().sum(1)) / 2
    return side, part, n, n * (sizes - n) / sizes.clamp(min=1) * direction.square().sum(1)


def _chosen(gains: Tensor, costs: Tensor, partners: Tensor) -> tuple[Tensor, float]:
    """Which clusters to split, which to empty for them and which these join, (3, S), and by how much the inertia falls:
    the best splits with the cheapest merges, no cluster in two of them."""
    gain, cost, partner = gains.double().tolist(), costs.double().tolist(), partners.tolist()
    merges = iter(costs.argsort(stable=True).tolist())
    used: set[int] = set()
    chosen: list[tuple[int, int, int]] = []
    lowered = 0.0
    for split in gains.argsort(descending=True, stable=True).tolist():
        if split in used:
            continue
        used.add(split)
        merge = next((j for j in merges if j not in used and (partner[j] == j or partner[j] not in used)), None)
        if merge is None or not gain[split] > cost[merge]:
            break
        used.update((merge, partner[merge]))
        chosen.append((split, merge, partner[merge]))
        lowered += gain[split] - cost[merge]
    return torch.tensor(chosen, dtype=torch.long, device=gains.device).view(-1, 3).T, lowered
