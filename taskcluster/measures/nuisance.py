"""What else the clusters follow: the ARI of the same clusters against labels of the surface, by layer."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import Position
from taskcluster.measures.clusterer import Clusterer
from taskcluster.measures.clusters import clusters
from taskcluster.measures.comparisons import AT, Scored, of_nuisance
from taskcluster.measures.measure import Measure, Values
from taskcluster.measures.observation import Observation
from taskcluster.metrics import Metric
from taskcluster.validation import validated


class Nuisance(Measure):
    """The run's clusters of all states at a position, on validation, against other labels than the task. At the
    separator: the first and the last symbol of the instruction, and its length; at x and at the answer: x and y. Where
    tasks have several descriptions, against these too. Of words, where instructions are made of words.

    Attributes:
        at: the positions.
    """

    metrics: ClassVar[tuple[Metric, ...]] = tuple(
        metric for position in AT for metric in of_nuisance(position, words=False, several=True).values()
    )
    positions: ClassVar[tuple[Position, ...]] = AT
    splits = ("val",)

    @validated
    def __init__(
        self, data: SequenceDataModule, clusterer: Clusterer, every_n_steps: PositiveInt | None, at: list[Scored]
    ) -> None:
        super().__init__(every_n_steps)
        family = data.family
        several = any(len(task.descriptions) > 1 for task in family.tasks)
        self._clusterer = clusterer
        self._declared = {position: of_nuisance(position, family.words, several) for position in at}
        self.positions = tuple(at)  # type: ignore[misc]  # configured
        self.metrics = tuple(m for of in self._declared.values() for m in of.values())  # type: ignore[misc]
        parts = [family.parts(instruction) for _, instruction in family.instructions]
        self._of_text = {
            "first": _numbered([part[:1] for part in parts]),
            "last": _numbered([part[-1:] for part in parts]),
            "length": torch.tensor([len(part) for part in parts]),
        }

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        found = dict[Metric, Values]()
        for position, declared in self._declared.items():
            labels = observation.labels[position]
            known = {"regex": labels["description"], **{key: labels[key] for key in ("x", "y") if key in labels}}
            known |= {key: values[labels["instruction"]] for key, values in self._of_text.items()}
            layers = clusters(observation, position, self._clusterer)
            found |= {metric: [own.ari(known[label]) for own in layers] for label, metric in declared.items()}
        return found


def _numbered(values: list[list[str]]) -> Tensor:
    """Equal numbers for equal values."""
    known = {value: k for k, value in enumerate(sorted({*map(tuple, values)}))}
    return torch.tensor([known[tuple(value)] for value in values])
