"""Three cheap numbers that may tell, without interventions, whether x reads the task at the separator.

in:  states of instructions at the separator (L+1, N, D) and of examples at x (L+1, E, D); the network, for attention
out: the attention of x to the separator; how far the map of tasks is the same at both; how far what distinguishes two
     instructions of one task at the separator says what distinguishes them at x
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.batches import Packer
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import Rows
from taskcluster.measures.interventions.edits import group_means
from taskcluster.measures.measure import Measure, Values, configured
from taskcluster.measures.observation import CHUNK, Observation
from taskcluster.metrics import Metric
from taskcluster.models.architecture import accepted
from taskcluster.models.hidden_states import evaluation

BETWEEN = "from x to the separator"
ATTENTION = Metric(
    "attention_to_separator", "attention", BETWEEN, label="Attention of x to the separator", low=0, high=1
)
SAME_MAP = Metric(
    "same_task_map", "correlation of distances between tasks", "at x and at the separator", low=-1, high=1
)
SHARED = Metric("shared_residuals", "R² of residuals", "at x, given those at the separator", high=1, least=-1)

RIDGE = 1e-2  # relative to the mean variance


def residuals(states: Tensor, groups: Tensor) -> Tensor:
    """States (N, D) less the mean of their group (N,)."""
    _, of = groups.unique(return_inverse=True)
    return states - group_means(states, of, int(of.max()) + 1)[of]


def explained(target: Tensor, given: Tensor, fold: Tensor) -> float:
    """The fraction of the variance of target (E, D) that a ridge regression on `given` (E, D') explains in the half of
    the examples that it was not fitted to; fold (E,): which half, 0 or 1. Below 0 where it is worse than the mean."""
    error = torch.zeros((), dtype=torch.float64)
    for half in (0, 1):
        x, y = (of[fold == half].double() for of in (given, target))
        gram = x.T @ x
        gram.diagonal().add_(RIDGE * gram.diagonal().mean() + 1e-12)
        weights = torch.linalg.solve(gram, x.T @ y)
        error += (target[fold != half].double() - given[fold != half].double() @ weights).square().sum()
    return 1 - float(error / target.double().square().sum())


def correlation_of_distances(one: Tensor, other: Tensor) -> float:
    """Pearson's correlation between the distances of K points (K, D) and those of K others (K, D')."""
    distances = torch.stack([torch.pdist(points.double()) for points in (one, other)])
    return float(torch.corrcoef(distances)[0, 1])


@configured
class Routes(Measure):
    """Numbers that might tell whether the separator is read, to be held against the effects of interventions.

    attention_to_separator: at layer l, the attention of x in block l to the separator, mean over heads and examples.
    same_task_map: the correlation of distances between the tasks' centroids at x with those at the separator.
    shared_residuals: the variance at x within each task and x, across instructions, that is a linear function of the
    same at the separator, on held-out instructions.
    """

    needs = ("data",)
    reads_attention = True
    metrics = (ATTENTION, SAME_MAP, SHARED)
    positions = ("instruction_end", "input")
    splits = ("val",)
    data: SequenceDataModule

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        rows = self.data.probe[observation.split]
        row = rows.row_of_example
        at_end, at_x = (observation.states[position].cpu() for position in ("instruction_end", "input"))
        task, x = rows.numbers[:, 0].long(), rows.numbers[:, 3].long()
        of_row, fold, cell = task[rows.first_examples], row % 2, task * (int(x.max()) + 1) + x
        pairs = [(residuals(a, of_row)[row], residuals(b, cell)) for a, b in zip(at_end, at_x, strict=True)]
        tasks = task.unique()
        centroids = [
            [group_means(states, groups, int(tasks.max()) + 1)[tasks] for states, groups in ((a, of_row), (b, task))]
            for a, b in zip(at_end, at_x, strict=True)
        ]
        return {
            ATTENTION: self._attention(observation.network, rows),
            SAME_MAP: [correlation_of_distances(*of_layer) for of_layer in centroids],
            SHARED: [explained(target, given, fold) for given, target in pairs],
        }

    def _attention(self, network: PreTrainedModel, rows: Rows) -> list[float]:
        """NaN for layer 0, the embedding."""
        pack, sums = Packer(rows, self.data.weights, network.device, self.data.padding), list[Tensor]()
        for chunk in torch.arange(len(rows)).split(CHUNK // 4):
            batch, kept = pack(chunk), list[Tensor]()
            hidden = {"hidden_keys": self.data.hidden(batch.token_places)} if self.data.hidden else {}
            with evaluation(network), torch.no_grad():
                network(**accepted(network, batch.inputs | hidden | {"weights_kept": kept}))
            line, column = batch.places("input")
            ends = batch.ends[line, column]
            sums.append(torch.stack([weights[line, :, column, ends].mean(1).sum() for weights in kept]))
        return [math.nan, *(torch.stack(sums).sum(0) / rows.n_examples).tolist()]
