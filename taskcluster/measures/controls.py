"""What the final ARI would be for other reasons than training: other seeds of KMeans, or labels that mean nothing.

in:  a trained network and its Measurement
out: {"kmeans": Scores, "chance": Scores} of the validation probe; Scores: {"ari/val/layer_3": [a number a repetition]}
"""

from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.measures.measurement import Measurement, observe

KMEANS_SEEDS = 10
SHUFFLES = 40

Scores = dict[str, list[float]]


def noise(measurement: Measurement, network: PreTrainedModel) -> dict[str, Scores]:
    """kmeans: the same states clustered with KMEANS_SEEDS seeds, the first of them the run's own, whose numbers are
    those of the journal. chance: the run's own clusters against task labels that were shuffled SHUFFLES times; within
    x, among the states of an x.
    """
    rows, own = measurement.probe["val"], measurement.clusterer
    states = observe(network, rows, measurement.loss_on, measurement.padding).states
    at_separator, at_x = states["instruction_end"], states["input"]
    instructions, n_clusters = rows.labels("instruction_end")["task"], measurement.n_clusters
    labels = rows.labels("input")
    x, tasks = labels["x"], labels["task"]

    clusterers = [replace(own, seed=own.seed + k) for k in range(KMEANS_SEEDS)]
    clusterings = own.fit_many(list(at_separator), [n_clusters] * len(at_separator))
    random = torch.Generator().manual_seed(own.seed)
    everywhere = torch.zeros_like(instructions)
    shuffled = [_shuffled(instructions, everywhere, random) for _ in range(SHUFFLES)]
    shuffled_within = {str(k): _shuffled(tasks, x, random) for k in range(SHUFFLES)}
    within = own.score_layers_within(at_x, x, tasks, shuffled_within)
    return {
        "kmeans": _named("ari", [c.score_layers(at_separator, instructions, n_clusters)["ari"] for c in clusterers])
        | _named("ari_within_x", [c.score_layers_within(at_x, x, tasks, {"": tasks})[""] for c in clusterers]),
        "chance": _named("ari", [[c.ari(s) for c in clusterings] for s in shuffled])
        | _named("ari_within_x", list(within.values())),
    }


def _shuffled(labels: Tensor, among: Tensor, random: torch.Generator) -> Tensor:
    """Labels (N,) in random order, exchanged only where `among` (N,) agrees."""
    order = torch.randperm(len(labels), generator=random)
    mixed = torch.empty_like(labels)
    mixed[among.argsort(stable=True)] = labels[order[among[order].argsort(stable=True)]]
    return mixed


def _named(metric: str, repetitions: list[list[float]]) -> Scores:
    return {f"{metric}/val/layer_{k}": list(values) for k, values in enumerate(zip(*repetitions, strict=True))}
