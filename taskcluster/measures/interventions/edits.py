"""Edits of hidden states for interventions: what is moved, from where to where.

in:  states of tested prompts of A at a site and a layer (M, D); states of the other half of the probe set (S, D)
out: the states that are patched in instead (M, D)

The edits move a prompt of task A towards task B, or take tasks out of the state. The controls change it by as much, in
a direction that has nothing to do with B.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from taskcluster.measures.clusterers.clusterer import Clusterer
from taskcluster.metrics import PLACES, Metric

EditName = Literal["add", "replace", "interchange", "cluster", "ablate", "keep", "mean"]
ControlName = Literal["random", "same_task", "shuffled", "third_task", "wrong_position", "random_subspace"]

CONTROLS: tuple[ControlName, ...] = get_args(ControlName)

RANK = 1e-5  # of the largest singular value: what is smaller is rounding


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
    def centroids(self) -> Tensor:
        """Of every group, (G, D)."""
        return self._means(self.states, self.groups)

    @cached_property
    def counts(self) -> Tensor:
        """How many states each group has, (G,)."""
        return torch.bincount(self.groups, minlength=len(self.cells))

    @cached_property
    def halved(self) -> Tensor:
        """From the centroid of a random half of each group to that of the other, (G, D)."""
        half = torch.empty_like(self.groups)
        by_group = self._order[self.groups[self._order].argsort(stable=True)]
        half[by_group] = torch.arange(len(half), device=half.device) % 2
        one, other = (self._means(self.states[half == k], self.groups[half == k]) for k in (0, 1))
        return other - one

    @cached_property
    def of_shuffled(self) -> Tensor:
        """Centroids of labels that are shuffled inside every cell, (G, D)."""
        shuffled, cell = torch.empty_like(self.groups), self.cells[self.groups]
        by_cell = self._order[cell[self._order].argsort(stable=True)]
        shuffled[cell.argsort(stable=True)] = self.groups[by_cell]
        return self._means(self.states, shuffled)

    @cached_property
    def of_clusters(self) -> Tensor:
        """For every group the centroid of a cluster that was found without labels, (G, D)."""
        centroids = torch.zeros_like(self.centroids)
        for cell in self.cells.unique():
            members = (self.cells == cell).nonzero().squeeze(1)
            inside, tested = self.cells[self.groups] == cell, self.cells[self.tested_groups] == cell
            found = self.clusterer.fit(self.states[inside], min(len(members), int(inside.sum()))).centroids
            groups = torch.searchsorted(members, self.tested_groups[tested])
            rows, columns = matched(found, self.tested[tested], groups, len(members))
            centroids[members[rows]] = found[columns]
        return centroids

    @cached_property
    def center(self) -> Tensor:
        """The mean of the centroids of each cell, (X, D)."""
        n = int(self.cells.max()) + 1
        sums = self.centroids.new_zeros(n, self.centroids.shape[1]).index_add_(0, self.cells, self.centroids)
        return sums / torch.bincount(self.cells, minlength=n).clamp(min=1)[:, None]

    @cached_property
    def bases(self) -> dict[int, Tensor]:
        """Of each cell an orthonormal basis of what its centroids span around their mean, (R, D)."""
        bases = {}
        for cell in self.cells.unique().tolist():
            spread = self.centroids[self.cells == cell] - self.center[cell]
            _, sizes, directions = torch.linalg.svd(spread, full_matrices=False)
            bases[cell] = directions[sizes > RANK * sizes.max()]
        return bases

    @cached_property
    def random_bases(self) -> dict[int, Tensor]:
        """Of each cell an orthonormal basis of a random subspace, (R, D), with as many dimensions as in `bases`."""
        generator, bases = torch.Generator().manual_seed(self.seed), {}
        for cell, basis in self.bases.items():
            drawn = torch.randn(basis.T.shape, generator=generator).to(basis.device, basis.dtype)
            bases[cell] = torch.linalg.qr(drawn).Q.T
        return bases

    @cached_property
    def _order(self) -> Tensor:
        """The states in random order, (S,)."""
        keys = torch.rand(len(self.groups), generator=torch.Generator().manual_seed(self.seed))
        return keys.argsort().to(self.groups.device)

    def _means(self, states: Tensor, groups: Tensor) -> Tensor:
        sums = states.new_zeros(len(self.cells), states.shape[1]).index_add_(0, groups, states)
        return sums / torch.bincount(groups, minlength=len(self.cells)).clamp(min=1)[:, None]


def matched(centroids: Tensor, states: Tensor, groups: Tensor, n_groups: int) -> tuple[Tensor, Tensor]:
    """Groups and the clusters for them, so that most states (M, D) of groups (M,) are nearest to the centroid (K, D) of
    the cluster for their group (Hungarian method)."""
    nearest, k = torch.cdist(states, centroids).argmin(1), len(centroids)
    counts = torch.bincount(groups * k + nearest, minlength=n_groups * k).view(n_groups, k)
    rows, columns = linear_sum_assignment(counts.cpu(), maximize=True)
    return torch.as_tensor(rows), torch.as_tensor(columns)


@dataclass(frozen=True)
class Place:
    """Tested states at a site and a layer, and what edits need to know of them.

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

    def can(self, name: str) -> Tensor:
        """Whether there is what an edit needs to know of each state, (M,)."""
        if not EDITS[name].scaled:  # it does not know where A is
            return self.b >= 0
        known = (self.a >= 0) & (self.b >= 0)
        if name == "third_task":
            return known & (self.third >= 0)
        if name == "same_task":  # it needs two halves
            return known & (self.space.counts[self.a] > 1)
        return known

    def difference(self, centroids: Tensor) -> Tensor:
        """From A's to B's of centroids (G, D)."""
        return centroids[self.b] - centroids[self.a]

    def moved(self, centroids: Tensor) -> Tensor:
        """`base` moved by alpha times the difference of centroids (G, D)."""
        return self.base + self.alpha * self.difference(centroids)

    def as_far(self, direction: Tensor) -> Tensor:
        """`base` moved in a direction (M, D) as far as `add` moves it."""
        length = self.alpha * torch.linalg.vector_norm(self.difference(self.space.centroids), dim=1, keepdim=True)
        return self.base + length * torch.nn.functional.normalize(direction, dim=1)

    def center(self) -> Tensor:
        """The mean of the centroids of the cell."""
        return self.space.center[self.space.cells[self.b]]

    def within(self, bases: Mapping[int, Tensor]) -> Tensor:
        """The component of `base`, less the cell's mean, in the subspace of the cell."""
        cell_of, component = self.space.cells[self.b], torch.zeros_like(self.base)
        for cell, basis in bases.items():
            rows = cell_of == cell
            component[rows] = (self.base[rows] - self.space.center[cell]) @ basis.T @ basis
        return component


class Edit(NamedTuple):
    """words: for titles. edited: the states at a place after the edit. scaled: by alpha. takes_out: it takes tasks out,
    and puts none in."""

    words: str
    edited: Callable[[Place], Tensor]
    scaled: bool = True
    takes_out: bool = False


def _taking_out(words: str, edited: Callable[[Place], Tensor]) -> Edit:
    return Edit(words, edited, scaled=False, takes_out=True)


EDITS: dict[str, Edit] = {
    "add": Edit("difference of centroids added", lambda p: p.moved(p.space.centroids)),
    "replace": Edit("replaced by B's centroid", lambda p: p.space.centroids[p.b], scaled=False),
    # Interchange intervention: Geiger et al., 2021
    "interchange": Edit("replaced by a state of B", lambda p: p.space.states[p.source], scaled=False),
    "cluster": Edit("difference of KMeans' centroids added", lambda p: p.moved(p.space.of_clusters)),
    "ablate": _taking_out("subspace of centroids removed", lambda p: p.base - p.within(p.space.bases)),
    "keep": _taking_out("subspace of centroids kept alone", lambda p: p.center() + p.within(p.space.bases)),
    "mean": _taking_out("replaced by the mean of all tasks", lambda p: p.center()),
    "random": Edit("random direction added", lambda p: p.as_far(p.directions)),
    "same_task": Edit("difference within A added", lambda p: p.as_far(p.space.halved[p.a])),
    "shuffled": Edit("difference of shuffled labels added", lambda p: p.as_far(p.difference(p.space.of_shuffled))),
    "third_task": Edit(
        "moved to a third task", lambda p: p.as_far(p.space.centroids[p.third] - p.space.centroids[p.a])
    ),
    # As `add`, but what is moved is the state one token earlier
    "wrong_position": Edit("difference of centroids added one token earlier", lambda p: p.moved(p.space.centroids)),
    "random_subspace": _taking_out("random subspace removed", lambda p: p.base - p.within(p.space.random_bases)),
}


def effect_metrics(edit: str, site: str, alpha: float = 1.0) -> tuple[Metric, ...]:
    """Of an edit at a site: answers of B, answers of A, recovered logit difference; for edits that take tasks out,
    which have no B, only the second."""
    where, ending, position = f"{PLACES[site]}, {EDITS[edit].words}", f"{edit}_{site}", site
    if alpha != 1:
        where += f", alpha {alpha:g}"
        ending += f"_alpha_{alpha:g}".replace(".", "_").replace("-", "minus_")
    label = "Answers that stay A's"
    kept = Metric(f"kept_{ending}", "Answers that stay", where, label=label, position=position, low=0, high=1)
    if EDITS[edit].takes_out:
        return (kept,)
    effect = Metric(
        f"effect_{ending}",
        "Causal effect",
        where,
        short=f"effect {PLACES[site]}",
        label="Answers turned to B's",
        position=position,
        low=0,
        high=1,
    )
    return effect, kept, Metric(f"recovered_{ending}", "logit difference recovered", where, position=position)
