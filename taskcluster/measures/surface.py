"""Baselines of the ARI that need no network: clusters of the instructions' texts.

in:  the instructions of the probe set; of the network, the input embedding alone
out: the ARI of tasks and clusters of bags of symbols, bags of n symbols in a row, mean embeddings, and edit distances;
     of words, where instructions are made of words
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import PositiveInt
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures.clusterer import Clusterer, Clustering
from taskcluster.measures.clusters import of_layers, of_layers_within
from taskcluster.measures.comparisons import AT, Scored, of_surface, scores
from taskcluster.measures.measure import Measure, Values
from taskcluster.measures.observation import Observation
from taskcluster.metrics import Metric
from taskcluster.validation import validated

FIRST = 0x10000  # of the characters that stand for symbols or words in edit distances: all are assignable


class Surface(Measure):
    """How far the instructions' texts alone group by task: with as many clusters as the run's, on the probe set of
    validation; within each x, the texts of the prompts with this x.

    Attributes:
        n: symbols in a row, or words, that are counted together.
        at: positions whose ARI it is a baseline of.
    """

    metrics: ClassVar[tuple[Metric, ...]] = tuple(m for s in scores(AT) for m in of_surface(s.metric, 2, words=False))
    splits = ("val",)

    @validated
    def __init__(
        self,
        data: SequenceDataModule,
        clusterer: Clusterer,
        every_n_steps: PositiveInt | None,
        n: PositiveInt,
        at: list[Scored],
    ) -> None:
        super().__init__(every_n_steps)
        if n < 2:
            raise ValueError(f"n={n} counts single symbols, as one of the baselines does anyway; use 2 or more")
        self._data, self._clusterer, self._n = data, clusterer, n
        self._declared = {score: of_surface(score.metric, n, data.family.words) for score in scores(at)}
        self.metrics = tuple(metric for declared in self._declared.values() for metric in declared)  # type: ignore[misc]

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        rows, found = self._data.probe[observation.split], dict[Metric, Values]()
        numbers = rows.labels("instruction_end")["instruction"].unique()  # of the instructions in the probe set
        described = self._described(numbers.tolist(), observation)
        for score, declared in self._declared.items():
            labels = rows.labels(score.position)
            which = torch.searchsorted(numbers, labels["instruction"].contiguous())
            k = self._clusterer.k(observation.n_tasks)
            for metric, (clusterer, features) in zip(declared, described, strict=True):
                states = features[which][None]
                if score.within:
                    (within,) = of_layers_within(states, clusterer, labels["x"], labels["task"])
                    found[metric] = within.ari(labels["task"])
                else:
                    found[metric] = of_layers(states, clusterer, k)[0].ari(labels["task"])
        return found

    def _described(self, numbers: Sequence[int], seen: Observation) -> list[tuple[Clusterer, Tensor]]:
        """For each baseline, what clusters it, and the features (I, ...) of the instructions."""
        instructions = self._data.family.instructions
        parts = [self._data.family.parts(instructions[number][1]) for number in numbers]
        return [
            (self._clusterer, counts(parts, 1)),
            (self._clusterer, counts(parts, self._n)),
            (self._clusterer, self._mean_embeddings(parts, seen)),
            (ByEditDistance(parts), torch.arange(len(parts))[:, None]),
        ]

    def _mean_embeddings(self, parts: Sequence[Sequence[str]], seen: Observation) -> Tensor:
        """Of the tokens of each instruction, (I, D), in float32; 0 of one without any."""
        joined = [(" " if self._data.family.words else "").join(part) for part in parts]
        weights = next(seen.network.get_input_embeddings().parameters()).detach().float().cpu()
        tokens = self._data.tokenizer(joined, add_special_tokens=False)["input_ids"]
        return torch.stack([weights[own].mean(0) if own else weights.new_zeros(weights.shape[1]) for own in tokens])


class ByEditDistance(Clusterer):
    """Agglomerative clustering with average linkage by Levenshtein's distance. States are numbers of texts, (N, 1)."""

    n_clusters, seed = None, 0  # nothing is random

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        known = {part: chr(FIRST + k) for k, part in enumerate(sorted({part for text in texts for part in text}))}
        spelled = ["".join(known[part] for part in text) for text in texts]
        self._distances = cdist(spelled, spelled, scorer=Levenshtein.distance, dtype=np.uint16)

    def fit_many(self, problems: Sequence[Tensor], n_clusters: Sequence[int]) -> list[Clustering]:
        return [self._fit(numbers.squeeze(1).numpy(), k) for numbers, k in zip(problems, n_clusters, strict=True)]

    def _fit(self, numbers: np.ndarray, k: int) -> Clustering:
        labels = np.zeros(len(numbers), dtype=int)
        if k > 1:
            linked = AgglomerativeClustering(k, metric="precomputed", linkage="average")
            labels = linked.fit(self._distances[np.ix_(numbers, numbers)]).labels_
        return Clustering(torch.from_numpy(labels), torch.empty(k, 0), 0.0)


def counts(texts: Sequence[Sequence[str]], n: int) -> Tensor:
    """How often each text has each run of n parts, (I, V) in float32."""
    of_texts = [Counter(zip(*(text[k:] for k in range(n)), strict=False)) for text in texts]
    columns = {run: k for k, run in enumerate(sorted(set().union(*of_texts)))}
    table = torch.zeros(len(texts), max(len(columns), 1))
    for row, of_text in zip(table, of_texts, strict=True):
        for run, times in of_text.items():
            row[columns[run]] = times
    return table
