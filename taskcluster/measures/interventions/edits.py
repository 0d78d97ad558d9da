"""Edits of hidden states for interventions: what is patched in, from which states.

in:  states of tested prompts of A at a site and a layer (M, D); states of the other half of the probe set (S, D)
out: the states that are patched in instead (M, D)

The edits steer a prompt of task A towards task B, or remove tasks from the state. The controls change the state by as
much, in a direction unrelated to B.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, NamedTuple, get_args

import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from torch import Tensor

from taskcluster.measures.clusterers.clusterer import Clusterer
from taskcluster.metrics import PLACES, Metric

EditName = Literal["add", "replace", "interchange", "cluster", "ablate", "keep", "mean"]
ControlName = Literal["random", "same_task", "shuffled", "third_task", "wrong_position", "random_subspace"]

CONTROLS: tuple[ControlName, ...] = get_args(ControlName)

CELLS = 2**22  # groups x clusters up to which their table is written out
RANK = 1e-5  # fraction of the largest singular value; smaller ones are rounding


def group_means(states: Tensor, groups: Tensor, n_groups: int) -> Tensor:
    """The mean of states (S, D) of each of G groups (S,), (G, D); zeros for a group without states."""
    sums = states.new_zeros(n_groups, states.shape[1]).index_add_(0, groups, states)
    return sums / torch.bincount(groups, minlength=n_groups).clamp(min=1)[:, None]


def alternating(groups: Tensor) -> Tensor:
    """Whether each of N is the first, third, ... of its group (N,): these give centroids, and the others are tested."""
    order, counts = groups.argsort(stable=True), torch.bincount(groups)
    rank = torch.arange(len(order)) - (counts.cumsum(0) - counts).repeat_interleave(
        counts
    )  # within its group, in order
    return torch.empty_like(order).scatter_(0, order, rank) % 2 == 0


def match_clusters(centroids: Tensor, states: Tensor, groups: Tensor, n_groups: int) -> tuple[Tensor, Tensor]:
    """Groups and the clusters for them, so that most states (M, D) of groups (M,) are nearest to the centroid (K, D) of
    the cluster for their group (Hungarian method)."""
    k = len(centroids)
    nearest = torch.cat([torch.cdist(part, centroids).argmin(1) for part in states.split(max(1, CELLS // k))])
    cells = (groups * k + nearest).cpu()
    if n_groups * k > CELLS:
        return _match_many(cells, n_groups, k)
    rows, columns = linear_sum_assignment(
        torch.bincount(cells, minlength=n_groups * k).view(n_groups, k), maximize=True
    )
    return torch.as_tensor(rows), torch.as_tensor(columns)


def _match_many(cells: Tensor, n_groups: int, k: int) -> tuple[Tensor, Tensor]:
    """`match_clusters` of many, by the cells group * K + cluster of M states (M,), in memory for the cells that occur.

    Each group also has a column of its own, where it stays if no cluster is better; it then gets any that is left.
    """
    occurring, counts = cells.unique(return_counts=True)
    every = torch.arange(n_groups)
    rows, columns = torch.cat([occurring // k, every]), torch.cat([occurring % k, k + every])
    weights = torch.cat([counts + 1, torch.ones_like(every)]).double()
    table = csr_array((weights, (rows, columns)), shape=(n_groups, k + n_groups))
    cluster = torch.as_tensor(min_weight_full_bipartite_matching(table, maximize=True)[1]).long()
    alone = (cluster >= k).nonzero().squeeze(1)
    left = torch.ones(k, dtype=torch.bool).index_fill(0, cluster[cluster < k], False).nonzero().squeeze(1)[: len(alone)]
    cluster[alone[: len(left)]] = left
    matched = cluster < k
    return every[matched], cluster[matched]


@dataclass(frozen=True)
class Space:
    """The states that give centroids, at a site and a layer.

    states (S, D). groups (S,): which group each belongs to: a task or, where states depend on x, a (task, x). cells
    (G,): which groups can be compared, those of one x or all.
    tested (P, D), tested_groups (P,): states of the other half, by which clusters are matched with groups.
    seed: of random subspaces, of halves and of shuffled labels.
    """

    states: Tensor
    groups: Tensor
    cells: Tensor
    tested: Tensor
    tested_groups: Tensor
    clusterer: Clusterer
    seed: int

    @cached_property
    def centroids(self) -> Tensor:  # (G, D)
        return group_means(self.states, self.groups, len(self.cells))

    @cached_property
    def counts(self) -> Tensor:  # states of each group, (G,)
        return torch.bincount(self.groups, minlength=len(self.cells))

    @cached_property
    def half_differences(self) -> Tensor:
        """From the centroid of a random half of each group to that of the other, (G, D)."""
        by_group = self._order[self.groups[self._order].argsort(stable=True)]
        halves = (by_group[k::2].sort().values for k in (0, 1))
        one, other = (group_means(self.states[half], self.groups[half], len(self.cells)) for half in halves)
        return other - one

    @cached_property
    def shuffled_centroids(self) -> Tensor:
        """Centroids of labels that are shuffled inside every cell, (G, D)."""
        shuffled, cell = torch.empty_like(self.groups), self.cells[self.groups]
        by_cell = self._order[cell[self._order].argsort(stable=True)]
        shuffled[cell.argsort(stable=True)] = self.groups[by_cell]
        return group_means(self.states, shuffled, len(self.cells))

    @cached_property
    def cluster_centroids(self) -> Tensor:
        """For every group the centroid of its matched cluster, which was computed without labels, (G, D)."""
        centroids = torch.zeros_like(self.centroids)
        for cell in self.cells.unique():
            members = (self.cells == cell).nonzero().squeeze(1)
            inside, tested = self.cells[self.groups] == cell, self.cells[self.tested_groups] == cell
            clusters = self.clusterer.fit(self.states[inside], min(len(members), int(inside.sum()))).centroids
            groups = torch.searchsorted(members, self.tested_groups[tested])
            rows, columns = match_clusters(clusters, self.tested[tested], groups, len(members))
            centroids[members[rows]] = clusters[columns]
        return centroids

    @cached_property
    def center(self) -> Tensor:  # the mean of the centroids of each cell, (X, D)
        return group_means(self.centroids, self.cells, int(self.cells.max()) + 1)

    @cached_property
    def bases(self) -> dict[int, Tensor]:
        """Of each cell an orthonormal basis of what its centroids span around their mean, (R, D)."""
        around = self.centroids - self.center[self.cells]
        spans = {
            k: torch.linalg.svd(around[self.cells == k], full_matrices=False) for k in self.cells.unique().tolist()
        }
        return {k: directions[sizes > RANK * sizes.max()] for k, (_, sizes, directions) in spans.items()}

    @cached_property
    def random_bases(self) -> dict[int, Tensor]:
        """Of each cell an orthonormal basis of a random subspace, (R, D), with as many dimensions as in `bases`."""
        generator = torch.Generator().manual_seed(self.seed)
        drawn = {k: torch.randn(basis.T.shape, generator=generator).to(basis) for k, basis in self.bases.items()}
        return {k: torch.linalg.qr(columns).Q.T for k, columns in drawn.items()}

    @cached_property
    def _order(self) -> Tensor:  # the states in random order, (S,)
        return (
            torch.rand(len(self.groups), generator=torch.Generator().manual_seed(self.seed))
            .argsort()
            .to(self.groups.device)
        )


@dataclass(frozen=True)
class BaseStates:
    """Tested states at a site and a layer, with what edits need.

    base (M, D). a, b, third (M,): groups of A, of B, and of a task with another answer, -1 for none. source (M,): which
    of the S is of B. directions (M, D): standard normal. alpha: in differences of centroids.
    """

    space: Space
    base: Tensor
    a: Tensor
    b: Tensor
    third: Tensor
    source: Tensor
    directions: Tensor
    alpha: float = 1.0

    def possible(self, name: str) -> Tensor:
        """Whether each state has the groups that an edit needs, (M,)."""
        needed = {"third_task": self.third >= 0, "same_task": self.space.counts[self.a] > 1}.get(name, self.b >= 0)
        return needed & (self.b >= 0) & ((self.a >= 0) | (EDITS[name].kind != "move"))  # others do not use A's group

    def difference(self, centroids: Tensor) -> Tensor:  # from A's to B's of centroids (G, D)
        return centroids[self.b] - centroids[self.a]

    def moved(self, centroids: Tensor) -> Tensor:
        """`base` moved by alpha times the difference of centroids (G, D)."""
        return self.base + self.alpha * self.difference(centroids)

    def moved_as_far(self, direction: Tensor) -> Tensor:
        """`base` moved in a direction (M, D) as far as `add` moves it."""
        length = self.alpha * torch.linalg.vector_norm(self.difference(self.space.centroids), dim=1, keepdim=True)
        return self.base + length * torch.nn.functional.normalize(direction, dim=1)

    def center(self) -> Tensor:  # the center of each state's cell
        return self.space.center[self.space.cells[self.b]]

    def within(self, bases: Mapping[int, Tensor]) -> Tensor:
        """The component of `base`, less the cell's mean, in the subspace of the cell."""
        cell_of, component = self.space.cells[self.b], torch.zeros_like(self.base)
        for cell, basis in bases.items():
            rows = cell_of == cell
            component[rows] = (self.base[rows] - self.space.center[cell]) @ basis.T @ basis
        return component


class Edit(NamedTuple):
    """words: for titles. edited: the states after the edit. kind: "move" by alpha, "replace", or "remove" tasks from
    the state without adding one."""

    words: str
    edited: Callable[[BaseStates], Tensor]
    kind: Literal["move", "replace", "remove"] = "move"

    @property
    def replaces(self) -> bool:
        """Whether the patched-in state does not depend on the state it replaces."""
        return self.kind == "replace"


EDITS: dict[str, Edit] = {
    "add": Edit("difference of centroids added", lambda s: s.moved(s.space.centroids)),
    "replace": Edit("replaced by B's centroid", lambda s: s.space.centroids[s.b], "replace"),
    # Interchange intervention: Geiger et al., 2021
    "interchange": Edit("replaced by a state of B", lambda s: s.space.states[s.source], "replace"),
    "cluster": Edit("difference of KMeans' centroids added", lambda s: s.moved(s.space.cluster_centroids)),
    "ablate": Edit("subspace of centroids removed", lambda s: s.base - s.within(s.space.bases), "remove"),
    "keep": Edit("all but the subspace of centroids removed", lambda s: s.center() + s.within(s.space.bases), "remove"),
    "mean": Edit("replaced by the mean of all tasks", lambda s: s.center(), "remove"),
    "random": Edit("random direction added", lambda s: s.moved_as_far(s.directions)),
    "same_task": Edit("difference within A added", lambda s: s.moved_as_far(s.space.half_differences[s.a])),
    "shuffled": Edit(
        "difference of shuffled labels added", lambda s: s.moved_as_far(s.difference(s.space.shuffled_centroids))
    ),
    "third_task": Edit(
        "steered to a third task", lambda s: s.moved_as_far(s.space.centroids[s.third] - s.space.centroids[s.a])
    ),
    # As `add`, one token earlier
    "wrong_position": Edit("difference of centroids added one token earlier", lambda s: s.moved(s.space.centroids)),
    "random_subspace": Edit("random subspace removed", lambda s: s.base - s.within(s.space.random_bases), "remove"),
}


def effect_metrics(
    edit: str, site: str, alpha: float = 1.0, span: str | tuple[int, ...] = "layer"
) -> tuple[Metric, ...]:
    """Of an edit at a site, in the layers of a span: answers of B, answers of A, recovered logit difference; for edits
    that remove tasks, which have no B, only the second."""
    where, ending, place = f"{PLACES[site]}, {EDITS[edit].words}", f"{edit}_{site}", PLACES[site]
    chosen = isinstance(span, tuple)
    if span == "from":
        where, ending = f"{where} in this layer and all above", f"{edit}_from_{site}"
    elif chosen:
        numbers = [*map(str, span)]
        where, ending = f"{where} in layers {', '.join(numbers)}", f"{edit}_layers_{'_'.join(numbers)}_{site}"
    if alpha != 1:
        where += f", alpha {alpha:g}"
        ending += f"_alpha_{alpha:g}".replace(".", "_").replace("-", "minus_")
    rate = partial(Metric, where=where, position=site, low=0, high=1, by_layer=not chosen)
    kept = rate(f"kept_{ending}", "Unchanged answers", label="Answers that remain A's")
    if EDITS[edit].kind == "remove":
        return (kept,)
    effect = rate(f"effect_{ending}", "Causal effect", short=f"effect {place}", label="Answers flipped to B's")
    recovered = Metric(f"recovered_{ending}", "logit difference recovered", where, position=site, by_layer=not chosen)
    return effect, kept, recovered
