"""How tight clusters are: whether each example is nearer to its task's centroid than to any other.

in:  states at the separator (L+1, N, D), one for each instruction, and at x (L+1, E, D)
out: for each example and layer, its cosine similarity to the centroid of its own task less that to the nearest other;
     and the loss of its answer, beside which tightness is read
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures.interventions.edits import group_means
from taskcluster.measures.measure import Measure, Values, configured
from taskcluster.measures.observation import Observation
from taskcluster.metrics import PLACES, Metric

TIGHTNESS, TIGHTNESS_AT_X = (
    Metric(key, "tightness", PLACES[at], label=f"Tightness {PLACES[at]}", by_example=True, position=at, low=-2, high=2)
    for key, at in (("tightness", "instruction_end"), ("tightness_at_x", "input"))
)

ANSWER_LOSS = Metric("answer_loss", "loss of the answer", axis="loss (nats)", by_layer=False, by_example=True, low=0)


def tightness(states: Tensor, groups: Tensor, cells: Tensor) -> Tensor:
    """For each of N states (N, D) the cosine similarity to the centroid of the other states of its group less that to
    the most similar centroid of another group of its cell (N,); NaN where there is none of either. Centroids are means
    of states of length 1, after the mean of the cell is taken off."""
    _, of_cell = cells.unique(return_inverse=True)
    centred = states - group_means(states, of_cell, int(of_cell.max()) + 1)[of_cell]
    unit = torch.nn.functional.normalize(centred, dim=1)
    pairs, of = torch.stack([cells, groups], 1).unique(dim=0, return_inverse=True)
    n = torch.bincount(of)
    sums = group_means(unit, of, len(pairs)) * n[:, None]
    own = torch.nn.functional.cosine_similarity(unit, sums[of] - unit, dim=1)
    others = unit @ torch.nn.functional.normalize(sums, dim=1).T
    comparable = (pairs[:, 0] == cells[:, None]) & (torch.arange(len(pairs)) != of[:, None])
    nearest = others.masked_fill(~comparable, -torch.inf).amax(1)
    return torch.where((n[of] > 1) & comparable.any(1), own - nearest, torch.nan)


@configured
class Tightness(Measure):
    """`tightness` of every example: at the separator among all tasks, at x among the tasks that share its x."""

    needs = ("data",)
    metrics = (TIGHTNESS, TIGHTNESS_AT_X, ANSWER_LOSS)
    positions = ("instruction_end", "input")
    data: SequenceDataModule

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        rows = self.data.probe[observation.split]
        row = rows.row_of_example
        task, x = rows.numbers[:, 0].long(), rows.numbers[:, 3].long()
        of_row = task[rows.first_examples]
        at_end, at_x = (observation.states[position].cpu() for position in ("instruction_end", "input"))
        return {
            TIGHTNESS: torch.stack([tightness(k, of_row, torch.zeros_like(of_row))[row] for k in at_end]),
            TIGHTNESS_AT_X: torch.stack([tightness(k, task, x) for k in at_x]),
            ANSWER_LOSS: observation.losses,
        }
