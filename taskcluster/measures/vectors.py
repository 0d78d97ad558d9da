"""Vectors of tasks: can a state taken from prompts with demonstrations make the model do the task without any?

in:  a family told by demonstrations; for each method a vector of every task and layer
out: accuracy in prompts without demonstrations, after the vector is put into their last token: of the first token of y,
     and of all of y

The methods are those of the field beside our clusters, with their controls: the state of one prompt (task vector:
Hendel et al., arXiv 2310.15916), the mean outputs of the heads with the highest average indirect effect (function
vector: Todd et al., arXiv 2310.15213), the mean of a task, its difference from the mean of all tasks, and the same with
the centroids of clusters. Vectors, the choice of a layer, and the accuracies are from prompts with different x.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveInt
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import Rows
from taskcluster.measures import effects
from taskcluster.measures.clusterer import Clusterer
from taskcluster.measures.demonstrations import Asked, Right, Told, parts_of, right, tell
from taskcluster.measures.effects import Vector
from taskcluster.measures.function_vectors import function_vectors
from taskcluster.measures.measure import Measure, Values
from taskcluster.measures.observation import Observation
from taskcluster.measures.sites import Layers, Placed, chunks, edited_layers
from taskcluster.metrics import Metric
from taskcluster.validation import Seed, validated


class Vectors(Measure):
    """What a vector of a task does at every layer of a prompt without demonstrations, and without any vector.

    Attributes:
        methods: of `taskcluster.measures.effects`; the controls come in addition.
        layers: those that vectors are put into, or how many; None for all.
        n_prompts: for each task, a quarter of them tested, a quarter to choose a layer.
        n_heads: of a function vector; n_trials: prompts of each task that heads are tried on.
        seed: of the choice of prompts, and of what is random in controls.

    Raises:
        UserError: the family is not told by demonstrations, or has too few inputs; a layer that does not exist.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (*chain(*effects.OF_TELLING), *effects.of_vectors(effects.VECTORS))
    splits = ("val",)

    @validated
    def __init__(
        self,
        data: SequenceDataModule,
        clusterer: Clusterer,
        methods: Annotated[list[Vector], Field(min_length=1)],
        layers: Layers,
        n_prompts: Annotated[int, Field(ge=4)],
        n_heads: PositiveInt,
        n_trials: PositiveInt,
        seed: Seed,
        every_n_steps: PositiveInt | None,
    ) -> None:
        super().__init__(every_n_steps)
        self._clusterer, self._layers, self._seed = clusterer, layers, seed
        self._n_heads, self._n_trials, self._n_tasks = n_heads, n_trials, len(data.family.tasks)
        self._methods = list(dict.fromkeys([*methods, *effects.VECTOR_CONTROLS]))
        self.metrics = (*chain(*effects.OF_TELLING), *effects.of_vectors(self._methods))  # type: ignore[misc]  # configured
        self._pad = data.tokenizer.pad_token_id or 0
        self._told = {part: tell(data, examples, seed) for part, examples in parts_of(data, n_prompts, seed).items()}

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        network, of_parts = observation.network, self._told
        layers = edited_layers(network, self._layers, "measures.vectors.layers")
        training = network.training
        network.eval()
        try:
            states, near = (self._look(network, of_parts[part].few) for part in ("vectors", "choice"))
            makes = self._vectors(network, states, near)
            choice, test = (self._with_vectors(network, of_parts[part], makes, layers) for part in ("choice", "test"))
            tested = of_parts["test"]
            telling = [right(network, rows, self._pad) for rows in (tested.zero, tested.shuffled, tested.few)]
        finally:
            network.train(training)
        n, every = len(tested.task), range(network.config.num_hidden_layers + 1)
        found: dict[Metric, Values] = {}
        for of_telling, rights in zip(effects.OF_TELLING, zip(*telling, strict=True), strict=True):
            found |= {metric: count / n for metric, count in zip(of_telling, rights, strict=True)}
        for method in self._methods:
            declared, of_layers = effects.of_vector(method), test[method]
            best = max(choice[method], key=lambda layer: choice[method][layer].first)
            rates = [[of_layers[layer][k] / n if layer in of_layers else math.nan for layer in every] for k in range(2)]
            values = rates[0], rates[1], rates[0][best], rates[1][best], float(best)
            found |= dict(zip(declared, values, strict=True))
        return found

    def _look(self, network: PreTrainedModel, rows: Rows) -> Tensor:
        """Raw states of every layer at the last token of prompts, (L+1, N, D)."""
        every = chunks(network, rows, torch.arange(rows.n_examples))
        return torch.cat([Placed(network, rows, chunk, self._pad).at("answer").states for chunk in every], 1)

    def _vectors(self, network: PreTrainedModel, states: Tensor, near: Tensor) -> dict[Vector, "Make"]:
        """What each method makes of a layer, states there (M, D), and the tasks and numbers (M,) of their prompts.

        states (L+1, N, D): of prompts with demonstrations. near (L+1, C, D): of others, which clusters are matched by.
        """
        told, k, device = self._told["vectors"], self._n_tasks, states.device
        task = told.task.to(device)
        counts = torch.bincount(task, minlength=k)[:, None]
        means = torch.stack([s.new_zeros(k, s.shape[1]).index_add_(0, task, s) / counts for s in states])
        difference = means - means.mean(1, keepdim=True)
        rng = torch.Generator().manual_seed(self._seed)
        drawn = torch.rand(4 * len(task), len(task), generator=rng)

        def of_one(layer: int, base: Tensor, tasks: Tensor, which: Tensor) -> Tensor:
            own = torch.where(tasks.cpu()[:, None] == told.task, drawn[which], -1.0).argmax(1)
            return states[layer][own.to(device)]

        def at_random(layer: int, base: Tensor, tasks: Tensor, which: Tensor) -> Tensor:
            direction = torch.randn(4 * len(task), base.shape[1], generator=rng.manual_seed(self._seed + layer))[which]
            length = torch.linalg.vector_norm(difference[layer, tasks], dim=1, keepdim=True)
            return base + length * torch.nn.functional.normalize(direction, dim=1).to(device, base.dtype)

        def of_another(layer: int, base: Tensor, tasks: Tensor, which: Tensor) -> Tensor:
            ahead = 1 + (drawn[which, 0] * (k - 1)).long().to(device)
            return base + difference[layer, (tasks + ahead) % k]

        makes: dict[Vector, Make] = {
            "difference": lambda layer, base, tasks, which: base + difference[layer, tasks],
            "mean": lambda layer, base, tasks, which: means[layer, tasks],
            "task_vector": of_one,
            "random": at_random,
            "other_task": of_another,
        }
        if "cluster" in self._methods:
            clusters = self._clusters(states, near)
            makes["cluster"] = lambda layer, base, tasks, which: base + clusters[layer, tasks]
        if "function_vector" in self._methods:
            of_heads = function_vectors(
                network, told.few, told.shuffled, told.task, k, self._n_heads, self._n_trials, self._pad
            )
            makes["function_vector"] = lambda layer, base, tasks, which: base + of_heads[tasks]
        return {method: makes[method] for method in self._methods}

    def _clusters(self, states: Tensor, near: Tensor) -> Tensor:
        """From the mean of the clusters' centroids to that of each task, (L+1, K, D): matched so that most of
        the states `near` are nearest to their own task's (Hungarian method)."""
        k, task = self._n_tasks, self._told["choice"].task
        made = []
        for found, others in zip(self._clusterer.fit_many(list(states), [k] * len(states)), near, strict=True):
            nearest = torch.cdist(others, found.centroids).argmin(1).cpu()
            counts = torch.zeros(k, k).index_put_((task, nearest), torch.ones(len(task)), accumulate=True)
            columns = torch.as_tensor(linear_sum_assignment(counts, maximize=True)[1])
            made.append((found.centroids - found.centroids.mean(0))[columns.to(states.device)])
        return torch.stack(made)

    def _with_vectors(
        self, network: PreTrainedModel, told: Told, makes: Mapping[Vector, "Make"], layers: Sequence[int]
    ) -> dict[Vector, dict[int, Right]]:
        """{method: {layer: how many answers are right without demonstrations}}."""
        found = {method: dict.fromkeys(layers, Right()) for method in makes}
        for chunk in chunks(network, told.zero, torch.arange(len(told.task))):
            asked, tasks = Asked(network, told.zero, chunk, self._pad), told.task[chunk].to(network.device)
            for layer in layers:
                base = asked.prompts.states[layer]
                for method, make in makes.items():
                    logits = asked.prompts.edited(layer, make(layer, base, tasks, chunk))
                    found[method][layer] += asked.right(logits)
        return found


Make = Callable[[int, Tensor, Tensor, Tensor], Tensor]
