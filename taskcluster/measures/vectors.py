"""Task vectors: can a state from few-shot prompts make the model do the task without demonstrations?

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
from itertools import product
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.measures.clustering import ClusterMeasure
from taskcluster.measures.few_shot import FewShot, Questions, correct, few_shot, question_chunks, split_examples
from taskcluster.measures.interventions.edits import group_means, match_clusters
from taskcluster.measures.interventions.sites import Layers, ProbePrompts, chunks, edited_layers
from taskcluster.measures.measure import Values, configured
from taskcluster.measures.observation import Observation
from taskcluster.metrics import Metric, ends
from taskcluster.models.block_sites import reading_sites
from taskcluster.models.heads import added, replacing
from taskcluster.models.hidden_states import AT_THE_END, evaluation
from taskcluster.results.intervals import interval
from taskcluster.validation import Seed
from taskcluster.work import each

Vector = Literal["task_vector", "function_vector", "difference", "mean", "cluster", "random", "other_task"]

VECTORS: dict[Vector, str] = {
    "task_vector": "state of one prompt patched in (task vector)",
    "function_vector": "outputs of heads added (function vector)",
    "difference": "difference of means added",
    "mean": "mean of the task patched in",
    "cluster": "difference of KMeans' centroids added",
    "random": "random direction added",
    "other_task": "another task's difference added",
}
CONTROLS: tuple[Vector, ...] = ("random", "other_task")

PROMPT_METRICS = tuple(  # for the first token of y, and for all of them
    Metric(f"{kind}_{key}", f"accuracy of the {kind.replace('_', ' ')}", where, by_layer=False, low=0, high=1)
    for kind in ("first_token", "whole_answer")
    for key, where in (
        ("zero_shot", "without demonstrations"),
        ("shuffled", "with shuffled demonstrations"),
        ("few_shot", "with demonstrations"),
    )
)

Patch = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # layer, states there (M, D), their tasks (M,) and numbers (M,)


@configured
class Vectors(ClusterMeasure):
    """Accuracy without demonstrations, with a task's vector patched in at each layer, and without any vector.

    Attributes:
        methods: those of VECTORS; the controls come in addition.
        layers: the patched layers, or how many; None for all.
        n_prompts: for each task, a quarter of them tested, a quarter to choose a layer.
        n_heads: of a function vector; n_trials: prompts of each task that heads are tried on.
        seed: of the choice of prompts, and of random controls.

    Raises:
        UserError: the family is not specified by demonstrations, or has too few inputs.
        ValueError: the model has no such layer.
    """

    splits = ("val",)
    needs = ("data", "clusterer", "n_layer")
    n_layer: int
    methods: Annotated[list[Vector], Field(min_length=1)]
    layers: Layers
    n_prompts: Annotated[int, Field(ge=4)]
    n_heads: PositiveInt
    n_trials: PositiveInt
    seed: Seed

    def __post_init__(self) -> None:
        super().__post_init__()
        self._layers = edited_layers(self.n_layer, self.layers)
        self._n_tasks, self._methods = len(self.data.family.tasks), list(dict.fromkeys([*self.methods, *CONTROLS]))
        self._parts = {
            part: few_shot(self.data, examples, self.seed)
            for part, examples in split_examples(self.data, self.n_prompts, self.seed).items()
        }

    @property
    def metrics(self) -> tuple[Metric, ...]:
        declared = (*PROMPT_METRICS, *(metric for method in self._methods for metric in vector_metrics(method)))
        rates = [metric for metric in declared if metric.high == 1 and not metric.by_layer]
        return (*declared, *(end for rate in rates for end in ends(rate)))

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        network, test, layers = observation.network, self._parts["test"], self._layers
        every = range(network.config.num_hidden_layers + 1)
        with evaluation(network):
            patches = self._patches(network)
            chosen, tested = (self._patched(network, part, patches, layers) for part in ("choice", "test"))
            plain = torch.stack([correct(network, rows) for rows in (test.zero, test.shuffled, test.few)])
        numbers: dict[Metric, Values] = {}
        for metric, right in zip(PROMPT_METRICS, plain.permute(2, 0, 1).flatten(0, 1), strict=True):
            numbers |= rate_over_tasks(metric, right, test.task)
        for method in self._methods:
            by_layer, whole_by_layer, at_best, whole_at_best, layer_of_best = vector_metrics(method)
            best = max(layers, key=lambda layer: int(chosen[method, layer][:, 0].sum()))
            untried = torch.full((len(test.task), 2), math.nan, dtype=torch.float64)
            right = torch.stack([tested.get((method, layer), untried) for layer in every])  # (L+1, N, 2)
            numbers |= zip((by_layer, whole_by_layer), right.mean(1).T.tolist(), strict=True)
            for metric, column in ((at_best, right[best, :, 0]), (whole_at_best, right[best, :, 1])):
                numbers |= rate_over_tasks(metric, column, test.task)
            numbers[layer_of_best] = float(best)
        return numbers

    def _states(self, network: PreTrainedModel, part: str, heads: bool = False) -> tuple[Tensor, Tensor]:
        """Return, at the last token of prompts with demonstrations, the raw states of every layer, (L+1, N, D), and
        with `heads` also their outputs, (L, N, H, d)."""
        rows, states, outputs = self._parts[part].few, list[Tensor](), [torch.empty(0)] * (not heads)
        for chunk in chunks(network, rows, torch.arange(rows.n_examples)):
            with reading_sites(network, ("heads",) if heads else (), AT_THE_END) as read:
                states.append(ProbePrompts(network, rows, chunk).at("answer").states)
            if heads:
                outputs.append(torch.stack(read["heads"][-len(states[0]) + 1 :])[:, :, 0])  # the last of two passes
        return torch.cat(states, 1), torch.cat(outputs, 1 if heads else 0)

    def _patches(self, network: PreTrainedModel) -> dict[Vector, Patch]:
        """How each method edits the states of a layer."""
        source, k, uses_heads = self._parts["vectors"], self._n_tasks, "function_vector" in self._methods
        states, outputs = self._states(network, "vectors", uses_heads)
        task = source.task.to(states.device)
        means = torch.stack([group_means(layer, task, k) for layer in states])
        difference = means - means.mean(1, keepdim=True)
        rng = torch.Generator().manual_seed(self.seed)
        drawn = torch.rand(4 * len(task), len(task), generator=rng)

        def one_prompt(layer: int, base: Tensor, tasks: Tensor, which: Tensor) -> Tensor:
            prompt = torch.where(tasks.cpu()[:, None] == source.task, drawn[which], -1.0).argmax(1)
            return states[layer][prompt.to(base.device)]

        def random_direction(layer: int, base: Tensor, tasks: Tensor, which: Tensor) -> Tensor:
            direction = torch.randn(4 * len(task), base.shape[1], generator=rng.manual_seed(self.seed + layer))[which]
            length = torch.linalg.vector_norm(difference[layer, tasks], dim=1, keepdim=True)
            return base + length * torch.nn.functional.normalize(direction, dim=1).to(base)

        def other_task(layer: int, base: Tensor, tasks: Tensor, which: Tensor) -> Tensor:
            ahead = 1 + (drawn[which, 0] * (k - 1)).long().to(base.device)
            return base + difference[layer, (tasks + ahead) % k]

        patches: dict[Vector, Patch] = {
            "difference": lambda layer, base, tasks, which: base + difference[layer, tasks],
            "mean": lambda layer, base, tasks, which: means[layer, tasks],
            "task_vector": one_prompt,
            "random": random_direction,
            "other_task": other_task,
        }
        if "cluster" in self._methods:
            centroids = self._centroids(states, self._states(network, "choice")[0])
            patches["cluster"] = lambda layer, base, tasks, which: base + centroids[layer, tasks]
        if uses_heads:
            tasks = torch.nn.functional.one_hot(task, k).to(outputs)
            mean_outputs = torch.einsum("lnhd,nk->lhkd", outputs, tasks) / tasks.sum(0)[:, None]
            heads = function_vectors(network, source, mean_outputs, self.n_heads, self.n_trials)
            patches["function_vector"] = lambda layer, base, tasks, which: base + heads[tasks]
        return {method: patches[method] for method in self._methods}

    def _centroids(self, states: Tensor, near: Tensor) -> Tensor:
        """From the mean of the clusters' centroids to the centroid for each task, (L+1, K, D).

        states (L+1, N, D): to be clustered. near (L+1, C, D): others, by which clusters are matched with tasks.
        """
        k, task, differences = self._n_tasks, self._parts["choice"].task.to(near.device), []
        for clusters, others in zip(self.clusterer.fit_many(list(states), [k] * len(states)), near, strict=True):
            _, cluster = match_clusters(clusters.centroids, others, task, k)
            differences.append((clusters.centroids - clusters.centroids.mean(0))[cluster.to(states.device)])
        return torch.stack(differences)

    def _patched(
        self, network: PreTrainedModel, part: str, patches: Mapping[Vector, Patch], layers: Sequence[int]
    ) -> dict[tuple[Vector, int], Tensor]:
        """{(method, layer): which answers are right without demonstrations, (N, 2)}; of those by which a layer is
        chosen, only the first token counts."""
        rows, whole = self._parts[part].zero, part == "test"
        right = {key: torch.zeros(rows.n_examples, 2, dtype=torch.float64) for key in product(patches, layers)}
        for chunk in each(question_chunks(network, rows, whole), "part"):
            questions = Questions(network, rows, chunk, whole)
            tasks = self._parts[part].task[chunk].to(network.device)
            for method, layer in each(right, "vector and layer"):
                states = patches[method](layer, questions.prompts.states[layer], tasks, chunk)
                right[method, layer][chunk] = questions.correct(questions.prompts.edited(layer, states))
        return right


def rate_over_tasks(metric: Metric, right: Tensor, task: Tensor) -> dict[Metric, Values]:
    """How many of N answers are right, 1 or 0 in `right` (N,), and the ends of the interval over their tasks (N,)."""
    of_tasks = [float(right[task == k].mean()) for k in task.unique()]
    over_tasks = interval(of_tasks, metric.range)
    return {metric: float(right.mean()), **dict(zip(ends(metric), (over_tasks.lower, over_tasks.upper), strict=True))}


def function_vectors(network: PreTrainedModel, prompts: FewShot, means: Tensor, n_heads: int, n_trials: int) -> Tensor:
    """What the heads that carry a task add to the residual stream: the sum, over `n_heads` heads, of their mean outputs
    in the prompts of each task with demonstrations, `means` (L, H, K, d): (K, D).

    The heads are those with the highest average indirect effect: by how much the right answer becomes more likely
    where the mean output of a head replaces its output, over `n_trials` prompts of each task with shuffled labels.
    """
    shuffled, task = prompts.shuffled, prompts.task
    effects = torch.zeros(means.shape[:2])
    first = torch.cat([(task == k).nonzero().squeeze(1)[:n_trials] for k in range(means.shape[2])])
    answer = shuffled.targets[shuffled.at("answer")].long()
    for chunk in each(chunks(network, shuffled, first), "function vectors, part"):
        suffixes, tasks = ProbePrompts(network, shuffled, chunk).at("answer"), task[chunk]
        before = _likelihood(suffixes.logits, answer[chunk])
        for block, head in each([*product(*map(range, effects.shape))], "head"):
            with replacing(network, block, head, means[block, head, tasks]):
                logits = suffixes.edited(block, suffixes.states[block])
            effects[block, head] += (_likelihood(logits, answer[chunk]) - before).sum()
    chosen = effects.flatten().topk(min(n_heads, effects.numel())).indices.tolist()
    heads = (divmod(number, effects.shape[1]) for number in chosen)
    return torch.stack([added(network, block, head, means[block, head]) for block, head in heads]).sum(0)


def _likelihood(logits: Tensor, answer: Tensor) -> Tensor:  # the log likelihood of the right first token, (B,)
    return logits.float().softmax(1).cpu().gather(1, answer[:, None]).squeeze(1)


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
        Metric(f"{key}_layer", "layer", at, by_layer=False, low=0),
    )
