"""Baselines of the ARI: clusters of the states of an untrained network, and of the texts that states are computed from.

in:  the prompts of the probe set; of the network, its architecture, or the input embedding alone
out: the ARI of tasks and clusters of random states, bags of symbols, bags of n symbols in a row, mean embeddings, and
     edit distances

A text is all that the model has read at the position, in tokens. Where x follows the whole instruction, the text at the
separator and at x is the instruction alone, in its symbols or words: within an x the rest is the same for all.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

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

Texts = Sequence[Sequence[int]] | Sequence[Sequence[str]]  # each in tokens, or in symbols or words

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
    positions = ()  # of the trained network

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(untrained_metric(score.metric) for score in self.scores)

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        network = with_random_weights(observation.network, self.seed)
        seen = observe(network, self.data, observation.split, self.at, **observation.workers)
        return {untrained_metric(score.metric): score.aris(seen, self.clusterer) for score in self.scores}


def untrained_metric(of: Metric) -> Metric:
    return control(of, "untrained", "baseline", "untrained network")


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
        return tuple(metric for score in self.scores for metric in self._declared(score.metric, score.position))

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        rows, aris = self.data.probe[observation.split], dict[Metric, Values]()
        numbers = rows.labels("instruction_end")["instruction"].unique()  # of the instructions in the probe set
        embedding = next(observation.network.get_input_embeddings().parameters()).detach().float().cpu()
        features = dict[Scored | None, list[tuple[Clusterer, Tensor]]]()  # of texts up to a position, of instructions
        for metric, position, within in self.scores:
            labels, read_at = rows.labels(position), self._read_at(position)
            if read_at not in features:
                texts = rows.read_at(read_at) if read_at else None
                features[read_at] = self._features(embedding, numbers.tolist(), texts)
            instruction = torch.searchsorted(numbers, labels["instruction"].contiguous())
            which, task = torch.arange(len(instruction)) if read_at else instruction, labels["task"]
            for declared, (clusterer, table) in zip(self._declared(metric, position), features[read_at], strict=True):
                states = table[which][None]
                if within:
                    aris[declared] = fit_layers_within(states, clusterer, labels["x"], task)[0].ari(task)
                else:
                    aris[declared] = fit_layers(states, clusterer, self.clusterer.k(observation.n_tasks))[0].ari(task)
        return aris

    def _declared(self, metric: Metric, position: Scored) -> tuple[Metric, ...]:
        unit: Unit = "words" if self.data.family.words else "symbols"
        return surface_metrics(metric, self.n, "tokens" if self._read_at(position) else unit)

    def _read_at(self, position: Scored) -> Scored | None:
        """The position itself where its texts are the tokens up to it, None where they are the instructions."""
        return position if position == "answer" or self.data.family.x_inside else None

    def _features(
        self, embedding: Tensor, instructions: Sequence[int], tokens: list[list[int]] | None
    ) -> list[tuple[Clusterer, Tensor]]:
        """For each baseline, what clusters it, and features (I, ...) of texts in tokens, or of the instructions with
        these numbers."""
        texts: Texts = tokens or []
        if tokens is None:
            family = self.data.family
            texts = [family.parts(family.instructions[number][1]) for number in instructions]
            joined = [(" " if family.words else "").join(parts) for parts in texts]
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
        labels = np.zeros(len(numbers), dtype=int)
        if n_clusters > 1:
            linked = AgglomerativeClustering(n_clusters, metric="precomputed", linkage="average")
            labels = linked.fit(self._distances[np.ix_(numbers, numbers)]).labels_
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
