"""What else the clusters follow: the ARI of the same clusters against labels of the surface, by layer."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from taskcluster.measures.clusters import Comparison, Scored, clusters
from taskcluster.measures.measure import Values, configured
from taskcluster.measures.observation import Observation
from taskcluster.metrics import ARI, Metric, at_x, control


@configured
class Nuisance(Comparison):
    """The run's clusters of all states at a position, on validation, against other labels than the task. At the
    separator: the first and the last symbol of the instruction, and its length; at x and at the answer: x and y. Where
    tasks have several descriptions, against these too. Of words, where instructions are made of words.

    Attributes:
        at: the positions.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        family = self.data.family
        several = any(len(task.descriptions) > 1 for task in family.tasks)
        self.declared = {position: nuisance_metrics(position, family.words, several) for position in self.at}
        parts = [family.parts(instruction) for _, instruction in family.instructions]
        self.of_text = {
            "first": _numbered([part[:1] for part in parts]),
            "last": _numbered([part[-1:] for part in parts]),
            "length": torch.tensor([len(part) for part in parts]),
        }

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(metric for declared in self.declared.values() for metric in declared.values())

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        aris: dict[Metric, Values] = {}
        for position, declared in self.declared.items():
            labels = observation.labels[position]
            known = {**labels, "regex": labels["description"]}
            known |= {name: values[labels["instruction"]] for name, values in self.of_text.items()}
            layers = clusters(observation, position, self.clusterer)
            aris |= {metric: [layer.ari(known[name]) for layer in layers] for name, metric in declared.items()}
        return aris


def nuisance_metrics(position: Scored, words: bool, several: bool) -> dict[str, Metric]:
    """{label: the ARI of the clusters at a position against it}; several: whether a task has several descriptions."""
    unit = "word" if words else "symbol"
    of, stem = (ARI, "ari") if position == "instruction_end" else (at_x(position)[0], f"ari_{position}")
    labels = {"regex": "description" if words else "regex"} if several else {}
    if position == "instruction_end":
        labels |= {"first": f"first {unit}", "last": f"last {unit}", "length": "length"}
    else:
        labels |= {"x": "x", "y": "y"}
    return {
        name: replace(control(of, "", "nuisance", where), key=f"{stem}_to_{name}") for name, where in labels.items()
    }


def _numbered(values: list[list[str]]) -> Tensor:
    """Equal numbers for equal values."""
    return torch.from_numpy(np.unique([" ".join(value) for value in values], return_inverse=True)[1])
