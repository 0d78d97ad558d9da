"""How well two labellings of N states agree: exact, in linear memory and in the time of a sort of N numbers.

in:  groups (N,), clusters (N,); or many permutations of the groups at once, (R, N)
out: the adjusted Rand index (ARI; Hubert and Arabie, 1985); over some of the pairs; corrected for a fixed number of
     clusters; of each permutation. The adjusted mutual information (AMI; Vinh, Epps and Bailey, JMLR 11, 2010)

The ARI is Cohen's kappa of two statements about each pair of states, "of one group" and "in one cluster" (Warrens, "On
the equivalence of Cohen's kappa and the Hubert-Arabie adjusted Rand index", J. Classification 25, 2008). So it can be
computed over a subset of the pairs.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import lambertw, xlogy
from torch import Tensor

ROOM = 2**20  # labels of permutations that are held at once
NEGLIGIBLE = 1e-30  # beside the likeliest; less likely counts are left out of an expectation
EXACTLY = 2**21  # states x clusters up to which clusterings are counted exactly: integers of as many digits


class PairCounts(NamedTuple):
    """Ordered pairs of states: together in both labellings, in the groups alone, in the clusters alone, in neither."""

    both: int
    by_group: int
    by_cluster: int
    neither: int

    @property
    def kappa(self) -> float:
        """Cohen's kappa of the two labellings; 1 where they agree about all pairs."""
        both, by_group, by_cluster, neither = self
        if by_group == by_cluster == 0:
            return 1.0
        chance = (both + by_group) * (by_group + neither) + (both + by_cluster) * (by_cluster + neither)
        return 2 * (both * neither - by_group * by_cluster) / chance


def pair_counts(groups: Tensor, clusters: Tensor) -> PairCounts:
    """Count all N (N - 1) ordered pairs."""
    n, cells = len(groups), _cells(groups, clusters)
    both, in_groups, in_clusters = map(_pairs_together, (cells, groups, clusters))
    return PairCounts(both, in_groups - both, in_clusters - both, n * (n - 1) - in_groups - in_clusters + both)


def adjusted_rand_index(truth: Tensor, labels: Tensor) -> float:
    """The ARI of two labellings (N,), as scikit-learn has it to the last bit, in a tenth of the time."""
    return pair_counts(truth, labels).kappa


def adjusted_mutual_information(truth: Tensor, labels: Tensor) -> float:
    """The AMI of two labellings (N,), over the arithmetic mean of entropies, as scikit-learn has it up to rounding."""
    cells = _cells(truth, labels)
    in_groups, in_clusters, in_cells = (np.unique(of, return_counts=True)[1] for of in (truth, labels, cells))
    if len(in_groups) == len(in_clusters) == len(in_cells):
        return 1.0
    n = len(truth)
    of_groups, of_clusters, of_both = (
        -float(xlogy(p, p).sum()) for p in (in_groups / n, in_clusters / n, in_cells / n)
    )
    expected = expected_mutual_information(in_groups, in_clusters)
    return (of_groups + of_clusters - of_both - expected) / ((of_groups + of_clusters) / 2 - expected)


def expected_mutual_information(groups: np.ndarray, clusters: np.ndarray) -> float:
    """Of labellings with groups of these sizes (G,) and clusters of these (K,), of the same N states in random order.

    How many of a group's a states are among a cluster's b is hypergeometric. There are at most 2 N different (a, b).
    Summed from the likeliest count outwards, some sqrt(a b / N) counts of each matter, which are O(N) in all.
    """
    n, (a, of_a), (b, of_b) = groups.sum(), *(np.unique(of, return_counts=True) for of in (groups, clusters))
    pairs = np.outer(of_a, of_b).ravel()
    a, b = (sizes.ravel().astype(float) for sizes in np.meshgrid(a, b, indexing="ij"))
    likeliest = np.floor((a + 1) * (b + 1) / (n + 2))
    total, information = np.ones_like(a), xlogy(likeliest, likeliest * n / (a * b))
    for step in (1, -1):
        which, count, odds = np.arange(len(a)), likeliest, np.ones_like(a)
        while len(which):
            of_group, of_cluster = a[which] - count, b[which] - count
            if step == 1:
                odds = odds * of_group * of_cluster / ((count + 1) * (n - count - of_group - of_cluster + 1))
            else:
                odds = odds * count * (n - count - of_group - of_cluster) / ((of_group + 1) * (of_cluster + 1))
            near = odds > NEGLIGIBLE
            which, count, odds = which[near], count[near] + step, odds[near]
            total[which] += odds
            information[which] += odds * xlogy(count, count * n / (a[which] * b[which]))
    return float((pairs * information / total).sum() / n)


def split_by_part(truth: Tensor, parts: Tensor, labels: Tensor) -> tuple[float, float]:
    """The ARI of groups `truth` that consist of `parts` (N,), over two kinds of pairs: within a part, without those of
    one group and two parts; and across parts, without those of one part. NaN where no pair of a group is left.

    For tasks and regexes: whether strings of one regex are together, and whether regexes of one task are.
    """
    both, by_group, by_cluster, neither = pair_counts(truth, labels)
    both_of_part, by_part, *_ = pair_counts(parts, labels)
    within = PairCounts(both_of_part, by_part, by_cluster, neither)
    across = PairCounts(both - both_of_part, by_group - by_part, by_cluster, neither)
    one, other = (part.kappa if part.both + part.by_group else math.nan for part in (within, across))
    return one, other


def ari_for_fixed_k(truth: Tensor, labels: Tensor) -> float:
    """The Rand index of clusters (N,) and groups (N,), corrected for its mean over all clusterings with as many
    clusters of any size: the one-sided model "num" of Gates and Ahn ("The impact of random models on clustering
    similarity", JMLR 18, 2017). The ARI's own correction is its mean over clusterings of the same sizes.
    """
    n, k = len(truth), len(labels.unique())
    both, by_group, by_cluster, neither = pair_counts(truth, labels)
    if by_group == by_cluster == 0:
        return 1.0
    together, of_group = chance_together(n, k), (both + by_group) / (n * (n - 1))
    expected = together * of_group + (1 - together) * (1 - of_group)
    return ((both + neither) / (n * (n - 1)) - expected) / (1 - expected)


@lru_cache(maxsize=1024)
def chance_together(n: int, k: int) -> float:
    """How often two of n states are together in a clustering drawn from all with k clusters, S(n-1, k) / S(n, k) in
    Stirling numbers of the second kind. Of many states and clusters, by their saddle points."""
    if k >= n - 1:
        return 0.0 if k == n else 2 / (n * (n - 1))  # no pair, or the only one
    if n * k <= EXACTLY:  # in numbers of surjections, k! S(n, k)
        fewer, all_of_them = (sum((-1) ** j * math.comb(k, j) * (k - j) ** m for j in range(k + 1)) for m in (n - 1, n))
        return fewer / all_of_them
    (middle, _), (_, before), (_, after) = (_saddle(m / k) for m in (n - 0.5, n - 1, n))
    return middle / n * math.sqrt(after / before * n / (n - 1))


def _saddle(mean: float) -> tuple[float, float]:
    """The parameter of a Poisson variable above 0 with this mean, and its variance over the mean: where (e^x - 1)^k /
    x^n, whose coefficients are k! S(n, k) / n!, is least, and how curved it is there (Temme, "Asymptotic estimates of
    Stirling numbers", Studies in Applied Mathematics 89, 1993)."""
    x = mean + float(lambertw(-mean * math.exp(-mean)).real)
    return x, 1 + x - mean


def permuted(labels: Tensor, among: Tensor, n: int, random: torch.Generator) -> Iterator[Tensor]:
    """Labels (N,) as they are, and in n random orders, exchanged only where `among` (N,) agrees: (1 + n, N) in all,
    some of the rows at a time."""
    groups = among.unique(return_inverse=True)[1]
    order = groups.argsort(stable=True)
    yield labels[None]
    at_once = max(1, ROOM // len(labels))
    for first in range(0, n, at_once):
        keys = torch.rand(min(at_once, n - first), len(labels), generator=random, dtype=torch.float64)
        mixed = torch.empty_like(keys, dtype=labels.dtype)
        mixed[:, order] = labels[(groups + keys).argsort(1)]
        yield mixed


def adjusted_rand_indices(truths: Tensor, labels: Tensor) -> np.ndarray:
    """The ARI of clusters (N,) with each row of `truths` (R, N), (R,).

    The rows are permutations of each other; groups and clusters are numbered from 0.
    """
    (n_rows, n), n_clusters = truths.shape, int(labels.max()) + 1
    n_cells = (int(truths[0].max()) + 1) * n_clusters
    cells = torch.from_numpy(np.sort(truths * n_clusters + labels, axis=1)) + n_cells * torch.arange(n_rows)[:, None]
    numbers, counts = torch.unique_consecutive(cells.flatten(), return_counts=True)
    both = torch.bincount(numbers // n_cells, counts**2, n_rows).numpy() - n
    in_groups, in_clusters = _pairs_together(truths[0]), _pairs_together(labels)
    expected, most = in_groups * in_clusters / max(n * (n - 1), 1), (in_groups + in_clusters) / 2
    return np.ones(n_rows) if most == expected else (both - expected) / (most - expected)


def _cells(groups: Tensor, clusters: Tensor) -> Tensor:
    """The combination of group and cluster of each of N states, (N,)."""
    lowest = clusters.min()
    return groups * (clusters.max() - lowest + 1) + clusters - lowest


def _pairs_together(labels: Tensor) -> int:
    """Ordered pairs of states that are together in a labelling (N,)."""
    counts = np.unique(labels.numpy(), return_counts=True)[1]
    return int(np.dot(counts, counts)) - len(labels)
