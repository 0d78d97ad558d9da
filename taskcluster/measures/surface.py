"""Baselines of the ARI that need no network: clusters of the texts that the states are computed from.

in:  the prompts of the probe set; of the network, the input embedding alone
out: the ARI of tasks and clusters of bags of symbols, bags of n symbols in a row, mean embeddings, and edit distances

A text is all that the model has read at the position, in tokens. Where x follows the whole instruction, the text at the
separator and at x is the instruction alone, in its symbols or words: within an x the rest is the same for all.
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
from taskcluster.measures.comparisons import AT, Scored, Unit, of_surface, scores
from taskcluster.measures.measure import Measure, Values
from taskcluster.measures.observation import Observation
from taskcluster.metrics import Metric
from taskcluster.validation import validated

FIRST = 0x10000  # of the characters that stand for symbols or words in edit distances: all are assignable


Texts = Sequence[Sequence[int]] | Sequence[Sequence[str]]  # each in tokens, or in symbols or words

Described = list[tuple[Clusterer, Tensor]]  # for each baseline, what clusters it, and features of texts (I, ...)


class Surface(Measure):
    """How far the prompts' texts alone group by task: with as many clusters as the run's, on the probe set of
    validation; within each x, the texts of the prompts with this x.

    Attributes:
        n: symbols, words or tokens in a row that are counted together.
        at: positions whose ARI it is a baseline of.
    """

    metrics: ClassVar[tuple[Metric, ...]] = tuple(m for s in scores(AT) for m in of_surface(s.metric, 2, "symbols"))
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
        self._declared = {score: of_surface(score.metric, n, self._unit(score.position)) for score in scores(at)}
        self.metrics = tuple(metric for declared in self._declared.values() for metric in declared)  # type: ignore[misc]

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        rows, found = self._data.probe[observation.split], dict[Metric, Values]()
        numbers = rows.labels("instruction_end")["instruction"].unique()  # of the instructions in the probe set
        embedding = next(observation.network.get_input_embeddings().parameters()).detach().float().cpu()
        described = dict[Scored | None, Described]()  # of the tokens up to a position, or of instructions
        for score, declared in self._declared.items():
            labels, position = rows.labels(score.position), self._tokens_at(score.position)
            if position not in described:
                tokens = rows.read_at(position) if position else None
                described[position] = self._described(embedding, numbers.tolist(), tokens)
            instruction = torch.searchsorted(numbers, labels["instruction"].contiguous())
            which = torch.arange(len(labels["task"])) if position else instruction
            k = self._clusterer.k(observation.n_tasks)
            for metric, (clusterer, features) in zip(declared, described[position], strict=True):
                states = features[which][None]
                if score.within:
                    (within,) = of_layers_within(states, clusterer, labels["x"], labels["task"])
                    found[metric] = within.ari(labels["task"])
                else:
                    found[metric] = of_layers(states, clusterer, k)[0].ari(labels["task"])
        return found

    def _tokens_at(self, position: Scored) -> Scored | None:
        """The position itself where its texts are the tokens up to it, None where they are the instructions."""
        return position if position == "answer" or self._data.family.x_inside else None

    def _unit(self, position: Scored) -> Unit:
        if self._tokens_at(position):
            return "tokens"
        return "words" if self._data.family.words else "symbols"

    def _described(self, embedding: Tensor, instructions: Sequence[int], tokens: list[list[int]] | None) -> Described:
        """Of texts in tokens or, without, of the instructions with these numbers."""
        texts: Texts = tokens or []
        if tokens is None:
            family = self._data.family
            texts = [family.parts(family.instructions[number][1]) for number in instructions]
            joined = [(" " if family.words else "").join(parts) for parts in texts]
            tokens = self._data.tokenizer(joined, add_special_tokens=False)["input_ids"]
        means = [embedding[own].mean(0) if own else embedding.new_zeros(embedding.shape[1]) for own in tokens]
        return [
            (self._clusterer, counts(texts, 1)),
            (self._clusterer, counts(texts, self._n)),
            (self._clusterer, torch.stack(means)),
            (ByEditDistance(texts), torch.arange(len(texts))[:, None]),
        ]


class ByEditDistance(Clusterer):
    """Agglomerative clustering with average linkage by Levenshtein's distance. States are numbers of texts, (N, 1)."""

    n_clusters, seed = None, 0  # nothing is random

    def __init__(self, texts: Texts) -> None:
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


def counts(texts: Texts, n: int) -> Tensor:
    """How often each text has each run of n parts, (I, V) in float32."""
    of_texts = [Counter(zip(*(text[k:] for k in range(n)), strict=False)) for text in texts]
    columns = {run: k for k, run in enumerate(sorted(set().union(*of_texts)))}
    table = torch.zeros(len(texts), max(len(columns), 1))
    for row, of_text in zip(table, of_texts, strict=True):
        for run, times in of_text.items():
            row[columns[run]] = times
    return table
