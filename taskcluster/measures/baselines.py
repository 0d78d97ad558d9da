"""Baselines of the ARI: clusters of the states of an untrained network, and of the texts that states are computed from.

in:  the prompts of the probe set; of the network, its architecture, or the input embedding alone
out: the ARI of tasks and clusters of random states, bags of symbols, bags of n symbols in a row, mean embeddings, and
     edit distances

A text is everything that the model has read at the position, in tokens. Where x follows the whole instruction, the text
at the
separator and at x is the instruction alone, in its symbols or words: within an x the rest is the same for all.
"""

from collections import Counter
from collections.abc import Mapping
from functools import cache, partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist
from sklearn.cluster import AgglomerativeClustering
from sklearn.feature_extraction import DictVectorizer
from torch import Tensor

from taskcluster.measures.clusterers.clusterer import Clusterer, Clusters
from taskcluster.measures.clustering import Comparison, Scored, fit_layers, fit_layers_within
from taskcluster.measures.measure import Values, configured
from taskcluster.measures.observation import Observation, observe
from taskcluster.metrics import Metric, control
from taskcluster.models.from_scratch import with_random_weights
from taskcluster.validation import Seed

Texts = tuple[tuple[Any, ...], ...]  # each in tokens, or in symbols or words

Unit = Literal["symbols", "words", "tokens"]  # what texts consist of


@configured
class Untrained(Comparison):
    """A network of the same architecture with random weights, on the probe set of validation. For a run from scratch,
    with the run's own seed, its states are those of step 0. It takes memory while it is measured: the weights once
    more.

    Attributes:
        at: positions whose ARI it is a baseline of.
        seed: of the weights.
    """

    seed: Seed
    positions = ()  # reads no states of the trained network

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(control(score.metric, "untrained", "baseline", "untrained network") for score in self.scores)

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        network = with_random_weights(observation.network, self.seed)
        seen = observe(
            network,
            self.data,
            observation.split,
            super().positions,
            executor=observation.executor,
            n_workers=observation.n_workers,
        )
        return dict(zip(self.metrics, (score.aris(seen, self.clusterer) for score in self.scores), strict=True))


@configured
class Surface(Comparison):
    """How far the prompts' texts alone group by task: with as many clusters as the run's, on the probe set of
    validation; within each x, the texts of the prompts with this x.

    Attributes:
        n: symbols, words or tokens in a row that are counted together.
        at: positions whose ARI it is a baseline of.
    """

    n: Annotated[int, Field(ge=2)]
    positions = ()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(
            metric
            for score in self.scores
            for metric in surface_metrics(score.metric, self.n, self._unit(score.position))
        )

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        embedding = next(observation.network.get_input_embeddings().parameters()).detach().float().cpu()
        features = cache(partial(self._features, embedding=embedding))  # positions may share their texts
        aris: dict[Metric, Values] = {}
        for score in self.scores:
            texts, which = self._texts(score.position, observation.split)
            every = self.data.probe[observation.split].labels(score.position)
            labels, chosen = score.labels(every), score.chosen(every)
            unit = self._unit(score.position)
            declared = surface_metrics(score.metric, self.n, unit)
            for metric, (clusterer, of_texts) in zip(declared, features(texts, unit), strict=True):
                states = of_texts[which]
                (found,) = (
                    fit_layers_within(states[None], clusterer, labels["x"], labels["task"])
                    if score.within
                    else fit_layers(states[chosen][None], clusterer, self.clusterer.k(observation.n_tasks))
                )
                aris[metric] = found.ari(labels["task"])
        return aris

    def _unit(self, position: Scored) -> Unit:
        """Tokens where a text is all that is read up to the position, the parts of an instruction elsewhere."""
        if position in ("answer", "demonstrations") or self.data.family.x_inside:
            return "tokens"
        return "words" if self.data.family.words else "symbols"

    def _texts(self, position: Scored, split: str) -> tuple[Texts, Tensor]:
        """The texts (I,) that states at the position are computed from, and the number of each state's text, (N,)."""
        rows, family = self.data.probe[split], self.data.family
        if self._unit(position) == "tokens":
            tokens = rows.read_at(position)
            return tuple(map(tuple, tokens)), torch.arange(len(tokens))
        numbers, which = rows.labels(position)["instruction"].unique(return_inverse=True)
        instructions = family.instructions
        return tuple(tuple(family.parts(instructions[number][1])) for number in numbers.tolist()), which

    def _features(self, texts: Texts, unit: Unit, embedding: Tensor) -> list[tuple[Clusterer, Tensor]]:
        """For each baseline, what clusters it, and the features (I, ...) of texts."""
        tokens = [list(text) for text in texts]
        if unit != "tokens":
            joined = [(" " if unit == "words" else "").join(parts) for parts in texts]
            tokens = self.data.tokenizer(joined, add_special_tokens=False)["input_ids"]
        means = [embedding[text].mean(0) if text else embedding.new_zeros(embedding.shape[1]) for text in tokens]
        return [
            (self.clusterer, counts(texts, 1)),
            (self.clusterer, counts(texts, self.n)),
            (self.clusterer, torch.stack(means)),
            (ByEditDistance(texts), torch.arange(len(texts))[:, None]),
        ]


class ByEditDistance(Clusterer):
    """Agglomerative clustering with average linkage by Levenshtein's distance. States are numbers of texts, (N, 1)."""

    n_clusters, seed = None, 0  # nothing is random

    def __init__(self, texts: Texts) -> None:
        self._distances = cdist(texts, texts, scorer=Levenshtein.distance, dtype=np.uint16)

    def fit(self, states: Tensor, n_clusters: int) -> Clusters:
        numbers = states.squeeze(1).numpy()
        distances = self._distances[np.ix_(numbers, numbers)]
        linked = (
            AgglomerativeClustering(n_clusters, metric="precomputed", linkage="average") if n_clusters > 1 else None
        )
        labels = linked.fit_predict(distances) if linked else np.zeros(len(numbers), dtype=int)
        return Clusters(torch.from_numpy(labels), torch.empty(n_clusters, 0), 0.0)


def counts(texts: Texts, n: int) -> Tensor:
    """How often each text has each run of n parts, (I, V) in float32."""
    runs = [Counter(zip(*(text[k:] for k in range(n)), strict=False)) for text in texts]
    table = DictVectorizer(sparse=False, dtype=np.float32).fit_transform(runs)
    return torch.from_numpy(table) if table.size else torch.zeros(len(texts), 1)


def surface_metrics(of: Metric, n: int, unit: Unit) -> tuple[Metric, ...]:
    """Of clusters of the prompts' texts: symbols, runs of n symbols, mean embedding, edit distance."""
    grams = {2: "bigrams", 3: "trigrams"}.get(n, f"{n}_grams")
    named = {
        "symbols": f"bag of {unit}",
        grams: f"bag of {grams.replace('_', '-')}",
        "mean_embedding": "mean embedding",
        "edit_distance": "edit distance",
    }
    return tuple(control(of, key, "baseline", where, by_layer=False) for key, where in named.items())
