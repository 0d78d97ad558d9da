"""Score clusters of activations against a label, by layer, with the level of chance.

in:  activations (layers, N, D) or, by head, (layers, N, H, d); a label, and another within whose values is clustered
out: ClusterScores: ARI, its level of chance, and cluster labels
"""

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np
import polars
import torch
from torch import Tensor

from taskcluster.measures.clusterers.clusterer import Clusterer
from taskcluster.measures.statistics.agreement import adjusted_rand_index
from taskcluster.validation import UserError

PERMUTATIONS = 100  # permutations of the label, for the level of chance


@dataclass(frozen=True)
class ClusterScores:
    """How well clusters match a label, layer by layer.

    Attributes:
        label, within: see `PromptObservation.cluster`.
        where: the position and the site, in words.
        layers: the numbers of the layers, (L',).
        ari: the adjusted Rand index, (L',), or (L', H) where each head is clustered by itself; NaN where a state is not
            finite.
        chance: the 97.5 % quantile of the ARI of the same clusters with the label permuted (within each value of
            `within`), in the same shape. Their mean is 0 for any number of clusters.
        n_clusters: k, of all states or, within, the mean over values.
        cluster_labels: the cluster of each state, (L', N) or (L', H, N). Within, they count up over the values.
    """

    label: str
    within: str | None
    where: str
    layers: list[int]
    ari: np.ndarray
    chance: np.ndarray
    n_clusters: float
    cluster_labels: np.ndarray

    def table(self) -> polars.DataFrame:
        """A row for each layer (and head): ari, chance, n_clusters."""
        layer, *head = np.indices(self.ari.shape).reshape(self.ari.ndim, -1)
        columns = {"layer": np.array(self.layers)[layer], **dict(zip(["head"], head, strict=False))}
        scores = {"ari": self.ari.flatten(), "chance": self.chance.flatten(), "n_clusters": self.n_clusters}
        return polars.DataFrame({**columns, **scores})

    @property
    def title(self) -> str:
        return f"ARI with {self.label}" + (f" within {self.within}" if self.within else "") + f" {self.where}"

    def plot(self) -> alt.LayerChart | alt.Chart:
        """ARI by layer, with the level of chance; a map of layers and heads where heads were clustered."""
        data = alt.Data(values=self.table().to_dicts())
        score = alt.Scale(domain=[0, 1], clamp=True)
        x = alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0, labelOverlap=True))
        tip = ["layer:O", alt.Tooltip("ari:Q", format=".3f"), alt.Tooltip("chance:Q", format=".3f")]
        base = alt.Chart(data, title=self.title, width=360, height=220)
        if self.ari.ndim == 2:
            color = alt.Color("ari:Q", title="ARI", scale=alt.Scale(domain=[0, 1], scheme="viridis"))
            return base.mark_rect().encode(x=x, y=alt.Y("head:O", title="head"), color=color, tooltip=["head:O", *tip])
        line = base.mark_line(point=True).encode(x=x, y=alt.Y("ari:Q", title="ARI", scale=score), tooltip=tip)
        return base.mark_line(strokeDash=[4, 3], color="gray").encode(x=x, y=alt.Y("chance:Q", scale=score)) + line

    def _repr_html_(self) -> str:
        return f"<p>{self.title}; {self.n_clusters:g} clusters</p>{self.table()._repr_html_()}"


def cluster_scores(
    states: Tensor,
    label: str,
    truth: Tensor,
    within: str | None,
    among: Tensor | None,
    clusterer: Clusterer,
    n_clusters: int | None,
    first_layer: int,
    where: str,
) -> ClusterScores:
    """Cluster states (layers, N, D) or (layers, N, H, d) and compare with codes `truth` (N,), within those of
    `among` (N,). Raises UserError for a label with fewer than two values, and for more clusters than states."""
    groups = _groups(label, truth, within, torch.zeros_like(truth) if among is None else among)
    if n_clusters is not None and (not isinstance(n_clusters, int) or n_clusters < 1):
        raise UserError(f"n_clusters={n_clusters!r}: give a number from 1 on, or leave it out")
    ks = [n_clusters or len(truth[rows].unique()) for rows in groups]
    if fewest := next((len(rows) for rows, k in zip(groups, ks, strict=True) if k > len(rows)), None):
        raise UserError(f"n_clusters={max(ks)} exceeds the {fewest} states to cluster; lower it")
    cells = states.movedim(2, 1).flatten(0, 1) if states.ndim == 4 else states  # (layers H, N, d)
    problems = [layer[rows] for layer in cells for rows in groups]
    fits = clusterer.fit_many(problems, ks * len(cells))
    firsts = np.cumsum([0, *ks])
    found = np.full((len(cells), len(truth)), -1)
    for number, fit in enumerate(fits):
        layer, group = divmod(number, len(groups))
        found[layer, groups[group].numpy()] = fit.cluster_labels.cpu().numpy() + firsts[group]
    ari, chance = _scores(found, truth, groups)
    undefined = np.isnan([fit.inertia for fit in fits]).reshape(len(cells), -1).any(1)
    ari[undefined] = chance[undefined] = np.nan
    shape = (len(states), states.shape[2]) if states.ndim == 4 else (len(states),)
    return ClusterScores(
        label=label,
        within=within,
        where=where,
        layers=list(range(first_layer, first_layer + len(states))),
        ari=ari.reshape(shape),
        chance=chance.reshape(shape),
        n_clusters=float(np.mean(ks)),
        cluster_labels=found.reshape(*shape, -1),
    )


def _groups(label: str, truth: Tensor, within: str | None, among: Tensor) -> list[Tensor]:
    """The states (M,) of each value of `within` that are clustered: those that share some values of the label and
    differ in others, as the ARI of others is the same for any clusters."""
    groups = [(among == value).nonzero().squeeze(1) for value in among.unique()]
    values = [len(truth[rows].unique()) for rows in groups]
    if max(values) < 2:
        inside = f" within any value of {within!r}" if within else ""
        raise UserError(f"labels[{label!r}] has fewer than two values{inside}; give prompts with different values")
    kept = [rows for rows, n in zip(groups, values, strict=True) if 1 < n < len(rows)]
    if not kept:
        inside = f" within {within!r}" if within else ""
        raise UserError(f"labels[{label!r}] has only one state per value{inside}; give more prompts")
    return kept


def _scores(found: np.ndarray, truth: Tensor, groups: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """The ARI of each layer, and the 97.5 % quantile of that with permuted labels."""
    sizes = [len(rows) for rows in groups]
    generator = torch.Generator().manual_seed(0)
    permuted = [
        [truth[rows[torch.randperm(len(rows), generator=generator)]] for rows in groups] for _ in range(PERMUTATIONS)
    ]

    def score(layer: np.ndarray, labels: Sequence[Tensor]) -> float:
        parts = [
            adjusted_rand_index(of, torch.from_numpy(layer[rows.numpy()]))
            for of, rows in zip(labels, groups, strict=True)
        ]
        return float(np.average(parts, weights=sizes))

    true = [truth[rows] for rows in groups]
    ari = np.array([score(layer, true) for layer in found])
    chance = np.array([np.quantile([score(layer, labels) for labels in permuted], 0.975) for layer in found])
    return ari, chance
