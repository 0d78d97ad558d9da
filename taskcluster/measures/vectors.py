"""Vectors of tasks: can a state taken from few-shot prompts make the model do the task without any demonstration?

in:  a family specified by demonstrations; for each method a vector of every task and layer
out: accuracy in prompts without demonstrations, after the vector is patched into their last token: of the first token
     of y, and of all of y

The methods are those of the field beside our clusters, with their controls: the state of one prompt (task vector:
Hendel et al., arXiv 2310.15916), the mean outputs of the heads with the highest average indirect effect (function
vector: Todd et al., arXiv 2310.15213), the mean of a task, its difference from the mean of all tasks, and the same with
the centroids of clusters. Vectors, the choice of a layer, and the accuracies are from prompts with different x.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.rows import Rows
from taskcluster.measures.clustering import ClusterMeasure
from taskcluster.measures.few_shot import FewShot, Questions, correct, few_shot, parts_of
from taskcluster.measures.function_vectors import function_vectors
from taskcluster.measures.interventions.edits import matched
from taskcluster.measures.interventions.sites import Layers, Placed, chunks, edited_layers
from taskcluster.measures.measure import Values, configured
from taskcluster.measures.observation import Observation, evaluation
from taskcluster.metrics import Metric
from taskcluster.validation import Seed

Vector = Literal["task_vector", "function_vector", "difference", "mean", "cluster", "random", "other_task"]

VECTORS: dict[Vector, str] = {
    "task_vector": "state of one prompt put in (task vector)",
    "function_vector": "outputs of heads added (function vector)",
    "difference": "difference of means added",
    "mean": "mean of the task put in",
    "cluster": "difference of KMeans' centroids added",
    "random": "random direction added",
    "other_task": "another task's difference added",
}
CONTROLS: tuple[Vector, ...] = ("random", "other_task")

PROMPTS = {
    "zero_shot": "without demonstrations",
    "shuffled": "with shuffled demonstrations",
    "few_shot": "with demonstrations",
}
PROMPT_METRICS = tuple(  # of the first token of y, and of all of them
    Metric(f"{kind}_{key}", f"accuracy of the {kind.replace('_', ' ')}", where, by_layer=False, low=0, high=1)
    for kind in ("first_token", "whole_answer")
    for key, where in PROMPTS.items()
)

Make = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # layer, states there (M, D), their tasks (M,) and numbers (M,)


@configured
class Vectors(ClusterMeasure):
    """What a vector of a task does at every layer of a prompt without demonstrations, and without any vector.

    Attributes:
        methods: those of VECTORS; the controls come in addition.
        layers: those that vectors are patched into, or how many; None for all.
        n_prompts: for each task, a quarter of them tested, a quarter to choose a layer.
        n_heads: of a function vector; n_trials: prompts of each task that heads are tried on.
        seed: of the choice of prompts, and of what is random in controls.

    Raises:
        UserError: the family is not specified by demonstrations, or has too few inputs; a layer that does not exist.
    """

    splits = ("val",)
    methods: Annotated[list[Vector], Field(min_length=1)]
    layers: Layers
    n_prompts: Annotated[int, Field(ge=4)]
    n_heads: PositiveInt
    n_trials: PositiveInt
    seed: Seed

    def __post_init__(self) -> None:
        super().__post_init__()
        self._n_tasks, self._pad = len(self.data.family.tasks), self.data.tokenizer.pad_token_id or 0
        self._methods = list(dict.fromkeys([*self.methods, *CONTROLS]))
        parts = parts_of(self.data, self.n_prompts, self.seed)
        self._parts = {part: few_shot(self.data, examples, self.seed) for part, examples in parts.items()}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (*PROMPT_METRICS, *(metric for method in self._methods for metric in vector_metrics(method)))

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        network, parts, test = observation.network, self._parts, self._parts["test"]
        layers = edited_layers(network, self.layers, "measures.vectors.layers")
        with evaluation(network):
            states, near = (self._states(network, parts[part].few) for part in ("vectors", "choice"))
            makes = self._makes(network, states, near)
            chosen, tested = (self._with_vectors(network, parts[part], makes, layers) for part in ("choice", "test"))
            plain = torch.stack([correct(network, rows, self._pad) for rows in (test.zero, test.shuffled, test.few)])
        n, every = len(test.task), range(network.config.num_hidden_layers + 1)
        numbers: dict[Metric, Values] = dict(
            zip(PROMPT_METRICS, (count / n for count in plain.T.flatten().tolist()), strict=True)
        )
        for method in self._methods:
            best = max(layers, key=lambda layer: int(chosen[method, layer][0]))
            counts = {layer: tested[method, layer].tolist() for layer in layers}
            first, whole = ([counts[k][kind] / n if k in counts else math.nan for k in every] for kind in (0, 1))
            values = first, whole, first[best], whole[best], float(best)
            numbers |= dict(zip(vector_metrics(method), values, strict=True))
        return numbers

    def _states(self, network: PreTrainedModel, rows: Rows) -> Tensor:
        """Raw states of every layer at the last token of prompts, (L+1, N, D)."""
        every = chunks(network, rows, torch.arange(rows.n_examples))
        return torch.cat([Placed(network, rows, chunk, self._pad).at("answer").states for chunk in every], 1)

    def _makes(self, network: PreTrainedModel, states: Tensor, near: Tensor) -> dict[Vector, Make]:
        """How each method edits the states of a layer.

        states (L+1, N, D): of prompts with demonstrations. near (L+1, C, D): of others, by which clusters are matched.
        """
        source, k, device = self._parts["vectors"], self._n_tasks, states.device
        task = source.task.to(device)
        counts = torch.bincount(task, minlength=k)[:, None]
        means = torch.stack([s.new_zeros(k, s.shape[1]).index_add_(0, task, s) / counts for s in states])
        difference = means - means.mean(1, keepdim=True)
        rng = torch.Generator().manual_seed(self.seed)
        drawn = torch.rand(4 * len(task), len(task), generator=rng)

        def one_prompt(layer: int, base: Tensor, tasks: Tensor, which: Tensor) -> Tensor:
            prompt = torch.where(tasks.cpu()[:, None] == source.task, drawn[which], -1.0).argmax(1)
            return states[layer][prompt.to(device)]

        def random_direction(layer: int, base: Tensor, tasks: Tensor, which: Tensor) -> Tensor:
            direction = torch.randn(4 * len(task), base.shape[1], generator=rng.manual_seed(self.seed + layer))[which]
            length = torch.linalg.vector_norm(difference[layer, tasks], dim=1, keepdim=True)
            return base + length * torch.nn.functional.normalize(direction, dim=1).to(device, base.dtype)

        def other_task(layer: int, base: Tensor, tasks: Tensor, which: Tensor) -> Tensor:
            ahead = 1 + (drawn[which, 0] * (k - 1)).long().to(device)
            return base + difference[layer, (tasks + ahead) % k]

        makes: dict[Vector, Make] = {
            "difference": lambda layer, base, tasks, which: base + difference[layer, tasks],
            "mean": lambda layer, base, tasks, which: means[layer, tasks],
            "task_vector": one_prompt,
            "random": random_direction,
            "other_task": other_task,
        }
        if "cluster" in self._methods:
            centroids = self._centroids(states, near)
            makes["cluster"] = lambda layer, base, tasks, which: base + centroids[layer, tasks]
        if "function_vector" in self._methods:
            heads = function_vectors(network, source, k, self.n_heads, self.n_trials, self._pad)
            makes["function_vector"] = lambda layer, base, tasks, which: base + heads[tasks]
        return {method: makes[method] for method in self._methods}

    def _centroids(self, states: Tensor, near: Tensor) -> Tensor:
        """From the mean of the clusters' centroids to that of each task, (L+1, K, D)."""
        k, task = self._n_tasks, self._parts["choice"].task.to(near.device)
        centroids = []
        for found, others in zip(self.clusterer.fit_many(list(states), [k] * len(states)), near, strict=True):
            _, cluster = matched(found.centroids, others, task, k)
            centroids.append((found.centroids - found.centroids.mean(0))[cluster.to(states.device)])
        return torch.stack(centroids)

    def _with_vectors(
        self, network: PreTrainedModel, part: FewShot, makes: Mapping[Vector, Make], layers: Sequence[int]
    ) -> dict[tuple[Vector, int], Tensor]:
        """{(method, layer): how many answers are right without demonstrations, (2,)}."""
        counts = {(method, layer): torch.zeros(2, dtype=torch.long) for method in makes for layer in layers}
        for chunk in chunks(network, part.zero, torch.arange(len(part.task))):
            questions, tasks = Questions(network, part.zero, chunk, self._pad), part.task[chunk].to(network.device)
            for method, layer in counts:
                states = makes[method](layer, questions.prompts.states[layer], tasks, chunk)
                counts[method, layer] += questions.correct(questions.prompts.edited(layer, states))
        return counts


def vector_metrics(method: Vector) -> tuple[Metric, ...]:
    """Of a method: accuracy of the first token and of the whole answer by layer; both at the layer where the first was
    best in other prompts; and that layer."""
    words, key = VECTORS[method], f"vector_{method}"
    first, whole = "accuracy without demonstrations", "accuracy of whole answers without demonstrations"
    at = f"{words}, chosen layer"
    return (
        Metric(key, first, words, position="answer", low=0, high=1),
        Metric(f"{key}_whole", whole, words, position="answer", low=0, high=1),
        Metric(f"{key}_chosen", first, at, by_layer=False, low=0, high=1),
        Metric(f"{key}_chosen_whole", whole, at, by_layer=False, low=0, high=1),
        Metric(f"{key}_layer", "layer", f"chosen for: {words}", by_layer=False, low=0),
    )
