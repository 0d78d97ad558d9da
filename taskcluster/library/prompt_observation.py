"""What a model computes for prompts, with methods to cluster states, patch them and run your own measures."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars
import torch
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.tokenized import TokenizedPrompts
from taskcluster.library.cluster_scores import ClusterScores, cluster_scores
from taskcluster.library.marked_prompts import marked_prompts
from taskcluster.library.patch_effects import Patched, PatchEdit, PatchEffects, patch_effects
from taskcluster.library.saved_states import Store, sampled_weights
from taskcluster.measures.clusterers.clusterer import Clusterer
from taskcluster.measures.clusterers.kmeans import KMeans
from taskcluster.measures.edited_prompts import Answers, AppliedEdits, Edit, logits_of
from taskcluster.measures.measure import Measure
from taskcluster.measures.observation import ANSWERS, Observation
from taskcluster.models.block_sites import SITES, Site
from taskcluster.validation import UserError, did_you_mean

Activations = dict[Site, dict[str, Tensor]]

SHOWN = 20  # prompts of a page in a notebook
ALREADY_EDITED = (
    "this observation already has edited states; pass all edits to `edited` at once, and call patch on the observation "
    "without edits"
)
WITHOUT_MODEL = "these states were loaded without their model; patching, edits and logits need observe(model, ...)"


@dataclass(frozen=True, kw_only=True, repr=False)
class PromptObservation(Observation):
    """An observation of your own prompts, or of a run's probe set.

    Attributes, beside those of `Observation`:
        activations: {site: {position: (layers, N, ...)}}. "resid_post" has layers 0 to L, other sites 1 to L;
            "heads" is (L, N, H, d).
        clusterer: what `cluster` uses by default.
    """

    activations: Activations
    clusterer: Clusterer = field(default_factory=lambda: KMeans(n_clusters=None, n_init=16, seed=0))

    @property
    def positions(self) -> tuple[str, ...]:
        return tuple(self.states)

    def at(self, position: str | None = None, site: Site = "resid_post") -> Tensor:
        """Activations (layers, N, ...), on the CPU; of the last position by default. Raises UserError where they were
        not read."""
        if site not in self.activations:
            other = f"; observe(..., sites=[{site!r}]) reads it" if site in SITES else ""
            raise UserError(f"site={site!r} was not read; choose from {', '.join(self.activations)}{other}")
        return self.activations[site][self.position(position)]

    def numpy(self, position: str | None = None, site: Site = "resid_post") -> np.ndarray:
        """Return activations as a numpy array; see `at`."""
        return self.at(position, site).numpy()

    def position(self, name: str | None) -> str:
        """The position of this name, by default the last. Raises UserError for an unknown one."""
        if name is None:
            return self.positions[-1]
        if name not in self.states:
            raise UserError(f"position={name!r} was not read; choose from {', '.join(self.positions)}")
        return name

    def codes(self, label: str, position: str | None = None) -> Tensor:
        """The values of a label as numbers, (N,), for each state at a position. Raises UserError for an unknown
        label."""
        known = self.labels[self.position(position)]
        if not isinstance(label, str) or label not in known:
            choices = ", ".join(known) or "none; pass labels= to observe"
            raise UserError(f"label={label!r} is unknown; labels are {choices}{did_you_mean(str(label), known)}")
        return known[label].long()

    def label(self, name: str, position: str | None = None) -> list[Any]:
        """The values of a label, for each state at a position."""
        self.codes(name, position)  # refuses an unknown one
        return super().label(name, self.position(position))

    def logits(self, position: str | None = None) -> Tensor:
        """The logits at a position, by default the last, (N, V) float32, on the CPU. The model runs again."""
        return logits_of(self.model, self.prompts, self.position(position), self.applied)

    @property
    def model(self) -> PreTrainedModel:
        """The network. Raises UserError for states that were loaded from a folder."""
        if self.network is None:
            raise UserError(WITHOUT_MODEL)
        return self.network

    def cluster(
        self,
        label: str,
        within: str | None = None,
        *,
        position: str | None = None,
        site: Site = "resid_post",
        n_clusters: int | None = None,
        clusterer: Clusterer | None = None,
    ) -> ClusterScores:
        """Cluster the states of every layer, and compare the clusters with a label.

        Args:
            label: the label that clusters are compared with.
            within: another label, inside each value of which states are clustered by themselves; the ARI is the mean
                over its values, weighted by their states. Values whose states all have one value of `label`, or all
                another one, do not count.
            position: where states are read; by default the last position.
            site: which activations; by default the states after each block. With "heads", each head is clustered by
                itself.
            n_clusters: by default the number of distinct values of `label` (within each value of `within`).
            clusterer: by default that of the run, or KMeans with 16 restarts and seed 0.
        """
        return cluster_scores(
            self.at(position, site),
            label,
            self.codes(label, position),
            within,
            None if within is None else self.codes(within, position),
            clusterer or self.clusterer,
            n_clusters,
            first_layer=0 if site == "resid_post" else 1,
            where=f"at {self.position(position)}" + (f", {site}" if site != "resid_post" else ""),
        )

    def patch(
        self,
        label: str,
        edit: PatchEdit = "add",
        within: str | Sequence[str] | None = None,
        *,
        position: str | None = None,
        layers: Sequence[int] | int | None = None,
        n_pairs: int = 200,
        alpha: float = 1.0,
        seed: int = 0,
    ) -> PatchEffects:
        """Edit the states of prompts towards another value of a label, and read which answers change.

        A pair is a base prompt A and a source prompt B with another value of `label` and the same value of `within`,
        to which the model gives different answers. Half of the prompts of each value give centroids, the others are
        bases.

        Args:
            label: the label to change.
            edit: "add" the difference of the centroids of B's and A's values; "centroid" replaces the state by the
                centroid of B's value; "replace" by the state of prompt B (interchange).
            within: labels that A and B share, and among whose values centroids are computed, as where states depend on
                x; by default A and B share all others, if there are such pairs, and centroids are over all prompts.
            position: where states are edited; by default the last.
            layers: one or several; by default all, 0 to L.
            n_pairs: at most so many pairs, drawn from all.
            alpha: strength of "add".
            seed: of the pairs and of the random directions of the control.
        """
        if self.applied:
            raise UserError(ALREADY_EDITED)
        at, each, prompts = self.position(position), self._each_prompt, self.prompts
        if each is None:
            raise UserError(f"prompts share their states at {', '.join(self.positions)}; observe another position too")
        labels = {name: self.codes(name, each) for name in self.labels[each]}
        self.codes(label, each)
        columns = prompts.columns[at][prompts.states_of(at, torch.arange(len(prompts)))]
        return patch_effects(
            Patched(self.model, prompts, columns, labels, self.answer_tokens),
            label,
            edit,
            within,
            at,
            layers,
            n_pairs,
            alpha,
            seed,
        )

    @property
    def _each_prompt(self) -> str | None:
        """A position whose states are one for each prompt; None where prompts share those at every position."""
        names = (name for name in reversed(self.positions) if len(self.prompts.examples[name]) == len(self.prompts))
        return next(names, None)

    def measure(self, measure: Measure) -> polars.DataFrame:
        """Run your own measure and return its numbers: a row for each metric and layer, with columns for the other
        layer and the example where a metric is by two layers or by example."""
        parts = []
        for metric, numbers in measure.measure(self).items():
            array = np.asarray(numbers, dtype=float)
            axes = dict(zip(metric.axes, np.indices(array.shape).reshape(array.ndim, -1), strict=True))
            part = polars.DataFrame({**axes, "value": array.flatten()})
            parts.append(part.select(polars.lit(metric.key).alias("metric"), polars.all()))
        return polars.concat(
            [polars.DataFrame(schema={"metric": polars.String, "layer": polars.Int64}), *parts], how="diagonal"
        )

    def table(self) -> polars.DataFrame:
        """A row for each prompt: text, read tokens, labels, answer, loss."""
        columns: dict[str, Any] = {"prompt": self.texts}
        for position, examples in self.prompts.examples.items():
            if len(examples) == len(self.prompts):
                reads = zip(self.tokens, self.prompts.reads(position).tolist(), strict=True)
                columns[f"token at {position}"] = [strings[read] for strings, read in reads]
        if each := self._each_prompt:
            columns |= {name: self.label(name, each) for name in self.labels[each]}
        return polars.DataFrame({**columns, "answer": self.answers, "loss": self.losses.tolist()}, strict=False)

    def save(self, folder: str | Path) -> Path:
        """Write activations (safetensors) and prompts (Parquet) to a folder, which `load_states` reads.

        Raises UserError for a folder that contains an observation of other prompts, positions, sites or weights."""
        parts = {
            f"{site}/{position}": values for site, by in self.activations.items() for position, values in by.items()
        }
        weights = None if self.network is None else sampled_weights(self.network)
        store = Store(Path(folder), [self.prompts.ids.tolist(), sorted(parts), weights])
        store.keep(0, {**parts, **self._answers._asdict()})
        self.describe(store)
        return store.folder

    def describe(self, store: Store) -> None:
        """Write all but the activations."""
        prompts, positions = self.prompts, self.positions
        extra = polars.DataFrame({"ids": prompts.unpadded, "tokens": self.tokens, "words": prompts.pieces})
        store.finish(
            polars.concat([self.table(), extra], how="horizontal"),
            {
                "labels": {at: {name: codes.tolist() for name, codes in by.items()} for at, by in self.labels.items()},
                "values": {name: list(values) for name, values in self.values.items()},
                "reads": {at: prompts.reads(at).tolist() for at in positions},
                "examples": {at: prompts.examples[at].tolist() for at in positions},
                "expected": None if prompts.answers is None else prompts.answers.tolist(),
            },
        )

    def page(self, n: int | None = None) -> str:
        """HTML of the prompts, or of the first n, the read tokens marked."""
        return marked_prompts(self.prompts, n)

    def _repr_html_(self) -> str:
        shape = ", ".join(f"{site} {tuple(next(iter(by.values())).shape)}" for site, by in self.activations.items())
        return f"<p>{len(self.prompts)} prompts; {html.escape(shape)}</p>{self.page(SHOWN)}"


def observation(
    model: PreTrainedModel | None,
    prompts: TokenizedPrompts,
    labels: Mapping[str, Mapping[str, Tensor]],
    values: Mapping[str, Sequence[Any]],
    parts: Mapping[str, Tensor],
    edited: Callable[[str, Mapping[int, Edit]], Observation] | None = None,
    applied: AppliedEdits | None = None,
) -> PromptObservation:
    """The observation of prompts. parts: {"SITE/POSITION": activations}, "tokens" and "losses" of the answers."""
    activations: Activations = {}
    for key, tensor in parts.items():
        site, slash, position = key.partition("/")
        if slash:
            activations.setdefault(cast(Site, site), {})[position] = tensor
    answers, right = Answers(parts["tokens"], parts["losses"]), prompts.answers
    return PromptObservation(
        split="prompts",
        states=activations["resid_post"],
        labels=labels,
        n_tasks=len(next(iter(values.values()))) if values else 1,
        loss=float(answers.losses.mean()),
        correct=answers.tokens == right if right is not None else torch.full((len(prompts),), math.nan),
        edited=edited or partial(_refuse, ALREADY_EDITED if applied else WITHOUT_MODEL),
        network=cast(PreTrainedModel, model),
        read_prompts=lambda: prompts,
        activations=activations,
        values=values,
        applied=applied,
        kept={ANSWERS: answers},
    )


def _refuse(reason: str, position: str, edits: Mapping[int, Edit]) -> Observation:
    raise UserError(reason)
