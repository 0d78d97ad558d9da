"""Edits of hidden states for interventions: what is moved, from where to where.

in:  states of tested prompts of A at a site and a layer (M, D); states of the other half of the probe set (S, D)
out: the states that are put in their place (M, D)

The edits move a prompt of task A towards task B, or take tasks out of the state. The controls change it by as much, in
a direction that has nothing to do with B.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from taskcluster.measures.clusterer import Clusterer
from taskcluster.measures.effects import UNSCALED

EditName = Literal["add", "replace", "interchange", "cluster", "ablate", "keep", "mean"]
ControlName = Literal["random", "same_task", "shuffled", "third_task", "wrong_position", "random_subspace"]

RANK = 1e-5  # of the largest singular value: what is smaller is rounding

CONTROLS: tuple[ControlName, ...] = get_args(ControlName)


@dataclass(frozen=True)
class Space:
    """The states that give centroids, at a site and a layer.

    states (S, D). groups (S,): which group each belongs to: a task or, where states depend on x, a (task, x). cells
    (G,): which groups can be compared, those of one x or all.
    tested (P, D), tested_groups (P,): states of the other half, which clusters are matched to groups with.
    half (S,): 0 or 1, a division of every group. shuffled (S,): the group of another state of the same cell.
    seed: of random subspaces.
    """

    states: Tensor
    groups: Tensor
    cells: Tensor
    tested: Tensor
    tested_groups: Tensor
    half: Tensor
    shuffled: Tensor
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
        """From the centroid of one half of each group to that of the other, (G, D)."""
        one, other = (self._means(self.states[self.half == k], self.groups[self.half == k]) for k in (0, 1))
        return other - one

    @cached_property
    def of_shuffled(self) -> Tensor:
        """Centroids of shuffled labels, (G, D)."""
        return self._means(self.states, self.shuffled)

    @cached_property
    def of_clusters(self) -> Tensor:
        """For every group the centroid of a cluster that was found without labels, (G, D): matched so that most
        tested states are nearest to their own group's (Hungarian method)."""
        centroids = torch.zeros_like(self.centroids)
        for cell in self.cells.unique():
            members = (self.cells == cell).nonzero().squeeze(1)
            inside, tested = self.cells[self.groups] == cell, self.cells[self.tested_groups] == cell
            found = self.clusterer.fit(self.states[inside], min(len(members), int(inside.sum()))).centroids
            nearest = torch.cdist(self.tested[tested], found).argmin(1)
            own, cells = torch.searchsorted(members, self.tested_groups[tested]), len(members) * len(found)
            counts = torch.bincount(own * len(found) + nearest, minlength=cells).view(len(members), -1)
            rows, columns = linear_sum_assignment(counts.cpu(), maximize=True)
            centroids[members[torch.as_tensor(rows)]] = found[torch.as_tensor(columns)]
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
        found = {}
        for cell in self.cells.unique().tolist():
            spread = self.centroids[self.cells == cell] - self.center[cell]
            _, sizes, directions = torch.linalg.svd(spread, full_matrices=False)
            found[cell] = directions[sizes > RANK * sizes.max()]
        return found

    @cached_property
    def random_bases(self) -> dict[int, Tensor]:
        """Of each cell an orthonormal basis of a random subspace, (R, D), with as many dimensions as in `bases`."""
        generator = torch.Generator().manual_seed(self.seed)
        found = {}
        for cell, basis in self.bases.items():
            drawn = torch.randn(basis.T.shape, generator=generator).to(basis.device, basis.dtype)
            found[cell] = torch.linalg.qr(drawn).Q.T
        return found

    def _means(self, states: Tensor, groups: Tensor) -> Tensor:
        sums = states.new_zeros(len(self.cells), states.shape[1]).index_add_(0, groups, states)
        return sums / torch.bincount(groups, minlength=len(self.cells)).clamp(min=1)[:, None]


@dataclass(frozen=True)
class Place:
    """Tested states at a site and a layer, and what edits need to know of them.

    base (M, D). own, target, third (M,): groups of A, of B, and of a task with another answer, -1 for none. source
    (M,): which of the S is of B. directions (M, D): standard normal. alpha: in differences of centroids.
    """

    space: Space
    base: Tensor
    own: Tensor
    target: Tensor
    third: Tensor
    source: Tensor
    directions: Tensor
    alpha: float = 1.0

    def can(self, edit: str) -> Tensor:
        """Whether there is what an edit needs to know of each state, (M,)."""
        if edit in UNSCALED:  # which do not know where A is
            return self.target >= 0
        there = (self.own >= 0) & (self.target >= 0)
        if edit == "third_task":
            return there & (self.third >= 0)
        if edit == "same_task":  # which has two halves
            return there & (self.space.counts[self.own] > 1)
        return there

    @property
    def difference(self) -> Tensor:
        return self.space.centroids[self.target] - self.space.centroids[self.own]

    def as_far(self, direction: Tensor) -> Tensor:
        """`base` moved in a direction (M, D) as far as `add` moves it."""
        length = self.alpha * torch.linalg.vector_norm(self.difference, dim=1, keepdim=True)
        return self.base + length * torch.nn.functional.normalize(direction, dim=1)

    def within(self, bases: Mapping[int, Tensor]) -> Tensor:
        """The component of `base`, less the cell's mean, in the subspace of the cell."""
        cell_of, found = self.space.cells[self.target], torch.zeros_like(self.base)
        for cell, basis in bases.items():
            rows = cell_of == cell
            found[rows] = (self.base[rows] - self.space.center[cell]) @ basis.T @ basis
        return found


def add(place: Place) -> Tensor:
    """Moved by the difference of the centroids of B and A."""
    return place.base + place.alpha * place.difference


def replace(place: Place) -> Tensor:
    """B's centroid."""
    return place.space.centroids[place.target]


def interchange(place: Place) -> Tensor:
    """The state of a prompt of B (interchange intervention: Geiger et al., 2021)."""
    return place.space.states[place.source]


def cluster(place: Place) -> Tensor:
    """Moved by the difference of the centroids of the clusters for B and A."""
    centroids = place.space.of_clusters
    return place.base + place.alpha * (centroids[place.target] - centroids[place.own])


def ablate(place: Place) -> Tensor:
    """Without its component in the subspace that the centroids span around their mean."""
    return place.base - place.within(place.space.bases)


def mean(place: Place) -> Tensor:
    """The mean of the centroids (mean ablation)."""
    return place.space.center[place.space.cells[place.target]]


def keep(place: Place) -> Tensor:
    """The mean of the centroids, and of the rest only the component in the subspace that they span."""
    return mean(place) + place.within(place.space.bases)


def random(place: Place) -> Tensor:
    """In a random direction."""
    return place.as_far(place.directions)


def same_task(place: Place) -> Tensor:
    """From one centroid of A to another, of the other half of A's examples."""
    return place.as_far(place.space.halved[place.own])


def shuffled(place: Place) -> Tensor:
    """From A's centroid to B's where labels are shuffled."""
    return place.as_far(place.space.of_shuffled[place.target] - place.space.of_shuffled[place.own])


def third_task(place: Place) -> Tensor:
    """Towards a third task, whose answer is neither A's nor B's."""
    return place.as_far(place.space.centroids[place.third] - place.space.centroids[place.own])


def wrong_position(place: Place) -> Tensor:
    """Moved as `add` moves it, but what is moved is the state one token earlier."""
    return add(place)


def random_subspace(place: Place) -> Tensor:
    """Without its component in a random subspace of as many dimensions as the centroids span."""
    return place.base - place.within(place.space.random_bases)


EDITS: Mapping[str, Callable[[Place], Tensor]] = {
    "add": add,
    "replace": replace,
    "interchange": interchange,
    "cluster": cluster,
    "ablate": ablate,
    "keep": keep,
    "mean": mean,
    "random": random,
    "same_task": same_task,
    "shuffled": shuffled,
    "third_task": third_task,
    "wrong_position": wrong_position,
    "random_subspace": random_subspace,
}
