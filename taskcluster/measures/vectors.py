"""Vectors of tasks: can a state taken from prompts with demonstrations make the model do the task without any?

in:  a family told by demonstrations; for each method a vector of every task and layer
out: accuracy of the first token of y in prompts without demonstrations, after the vector is put into their last token

The methods are those of the field beside our clusters, with their controls: the state of one prompt (task vector:
Hendel et al., arXiv 2310.15916), the mean outputs of the heads with the highest average indirect effect (function
vector: Todd et al., arXiv 2310.15213), the mean of a task, its difference from the mean of all tasks, and the same with
the centroids of clusters. Vectors, the choice of a layer, and the accuracies are from prompts with different x.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveInt
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.prompts import Prompts
from taskcluster.data.rows import Rows, rows_of
from taskcluster.measures import effects
from taskcluster.measures.clusterer import Clusterer
from taskcluster.measures.effects import Vector
from taskcluster.measures.heads import function_vectors
from taskcluster.measures.measure import Measure, Values
from taskcluster.measures.observation import Observation
from taskcluster.measures.sites import Layers, Placed, chunks, edited_layers
from taskcluster.metrics import Metric
from taskcluster.tasks.demonstrations import Layout
from taskcluster.tasks.family import Example
from taskcluster.validation import Seed, UserError, validated

PARTS = {"vectors": 2, "choice": 1, "test": 1}  # of every four x of a task


@dataclass(frozen=True)
class Told:
    """The prompts of N examples, told in three ways: with demonstrations, with shuffled ones, and without any.

    task (N,): of each.
    """

    few: Rows
    shuffled: Rows
    zero: Rows
    task: Tensor

    @property
    def answer(self) -> Tensor:
        """The first token of y, (N,)."""
        return self.zero.targets[self.zero.at("answer")].long()


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

    metrics: ClassVar[tuple[Metric, ...]] = (*effects.OF_TELLING, *effects.of_vectors(effects.VECTORS))
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
        self.metrics = (*effects.OF_TELLING, *effects.of_vectors(self._methods))  # type: ignore[misc]  # configured
        self._pad = data.tokenizer.pad_token_id or 0
        self._told = {part: self._tell(data, examples) for part, examples in _parts(data, n_prompts, seed).items()}

    def _tell(self, data: SequenceDataModule, examples: Sequence[Example]) -> Told:
        layout, prompts = Layout(data.family.layout), Prompts(data.family, data.tokenizer, data.template)

        def rows(instructions: Sequence[str]) -> Rows:
            told = [e._replace(instruction=i) for e, i in zip(examples, instructions, strict=True)]
            return rows_of(prompts.encode(told), shared=False, pad=self._pad)

        few = [example.instruction for example in examples]
        return Told(
            rows(few),
            rows([layout.shuffled(i, random.Random(f"{self._seed}/shuffled/{i}")) for i in few]),
            rows([layout.query] * len(few)),
            torch.tensor([example.task_id for example in examples]),
        )

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        network, told = observation.network, self._told
        n_layer, layers = (
            network.config.num_hidden_layers,
            edited_layers(network, self._layers, "measures.vectors.layers"),
        )
        training = network.training
        network.eval()
        try:
            states, _ = self._look(network, told["vectors"].few)
            near, _ = self._look(network, told["choice"].few)
            makes = self._vectors(network, states, near)
            right = {part: self._with_vectors(network, told[part], makes, layers) for part in ("choice", "test")}
            telling = [
                _rate(self._look(network, rows)[1], told["test"].answer)
                for rows in (told["test"].zero, told["test"].shuffled, told["test"].few)
            ]
        finally:
            network.train(training)
        found: dict[Metric, Values] = dict(zip(effects.OF_TELLING, telling, strict=True))
        for method in self._methods:
            by_layer, chosen, layer = effects.of_vector(method)
            best = max(right["choice"][method], key=right["choice"][method].__getitem__)
            accuracy = right["test"][method]
            found[by_layer] = [accuracy.get(layer, float("nan")) for layer in range(n_layer + 1)]
            found[chosen], found[layer] = accuracy[best], float(best)
        return found

    def _look(self, network: PreTrainedModel, rows: Rows) -> tuple[Tensor, Tensor]:
        """Raw states of every layer at the last token, (L+1, N, D), and the logits there, (N, V)."""
        seen = [
            Placed(network, rows, chunk, self._pad).at("answer")
            for chunk in chunks(network, rows, torch.arange(rows.n_examples))
        ]
        return torch.cat([s.states for s in seen], 1), torch.cat([s.logits for s in seen])

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
    ) -> dict[Vector, dict[int, float]]:
        """{method: {layer: accuracy of the first token without demonstrations}}."""
        right = {method: dict.fromkeys(layers, 0) for method in makes}
        for chunk in chunks(network, told.zero, torch.arange(len(told.task))):
            prompts = Placed(network, told.zero, chunk, self._pad).at("answer")
            tasks, answer = (of[chunk].to(network.device) for of in (told.task, told.answer))
            for layer in layers:
                for method, make in makes.items():
                    logits = prompts.edited(layer, make(layer, prompts.states[layer], tasks, chunk))
                    right[method][layer] += int((logits.argmax(1) == answer).sum())
        return {method: {layer: n / len(told.task) for layer, n in of.items()} for method, of in right.items()}


Make = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def _rate(logits: Tensor, answer: Tensor) -> float:
    return float((logits.argmax(1).cpu() == answer).double().mean())


def _parts(data: SequenceDataModule, n_prompts: int, seed: int) -> dict[str, list[Example]]:
    """Validation examples of every task, each with an x of its own, in parts. Raises UserError for too few."""
    family = data.family
    if not family.layout:
        raise UserError("measures.vectors needs a task told by demonstrations; choose task.describe=demonstrations")
    by_task: dict[int, dict[str, list[Example]]] = {task.task_id: {} for task in family.tasks}
    for example in family.split()["val"]:
        by_task[example.task_id].setdefault(example.x, []).append(example)
    parts: dict[str, list[Example]] = {part: [] for part in PARTS}
    whole = sum(PARTS.values())
    for task_id, by_x in by_task.items():
        if len(by_x) < whole:
            raise UserError(
                f"measures.vectors: task {task_id} has {len(by_x)} inputs in validation, but needs {whole}; add some"
            )
        rng = random.Random(f"{seed}/vectors/{task_id}")
        chosen = [rng.choice(by_x[x]) for x in rng.sample(sorted(by_x), min(n_prompts, len(by_x)))]
        shares = list(accumulate(PARTS.values()))
        ends = [0, *(len(chosen) * share // whole for share in shares)]
        for part, (begin, end) in zip(PARTS, pairwise(ends), strict=True):
            parts[part] += chosen[begin:end]
    return parts
