"""Pairs of tasks for interventions: who is to answer as whom.

in:  the probe set of a split
out: Halves: examples that give centroids, and examples that are tested; Pairs (A, B) that share x and disagree about y

A pair is an example of task A, tested, and a task B that maps its x to a y with another first token. Centroids and
source prompts come from the other half of the instructions, which no test uses.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from taskcluster.data.rows import Rows
from taskcluster.validation import UserError


@dataclass(frozen=True)
class Groups:
    """The (task, x) that the centroid half has: task, x and first token of y of each, (G,), and the group of each of
    its examples, (C,)."""

    task: Tensor
    x: Tensor
    token: Tensor
    of_example: Tensor


@dataclass(frozen=True)
class Pairs:
    """P interventions. centroid_examples (C,), the examples of the half that gives centroids.

    base (P,): the tested example. own, target, third (P,): numbers of Groups with its x: that of its task A, that of B,
    and that of a task with yet another answer, -1 where there is none. source (P,): which of the C is a prompt of B.
    token_a, token_b (P,): the first tokens of the answers.
    """

    centroid_examples: Tensor
    groups: Groups
    base: Tensor
    own: Tensor
    target: Tensor
    third: Tensor
    source: Tensor
    token_a: Tensor
    token_b: Tensor

    def __len__(self) -> int:
        return len(self.base)


def halves(rows: Rows) -> tuple[Tensor, Tensor]:
    """The examples of the first, third, ... instruction of every task, and those of the others."""
    task = rows.numbers[rows.first_examples, 0].long()
    order = task.argsort(stable=True)
    first = torch.cat([torch.tensor([True]), task[order].diff() != 0])
    begin = torch.where(first, torch.arange(len(order)), 0).cummax(0).values
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - begin
    counts = rows.counts[:-1]
    odd = (rank % 2 == 1).repeat_interleave(counts)
    return (~odd).nonzero().squeeze(1), odd.nonzero().squeeze(1)


def pairs_of(rows: Rows, n_pairs: int, generator: torch.Generator) -> Pairs:
    """Up to `n_pairs` pairs, drawn from all. Raises UserError where no two tasks share an x and disagree."""
    centroid, tested = halves(rows)
    token = rows.targets[rows.at("answer")].long()
    task, x = rows.numbers[:, 0].long(), rows.numbers[:, 3].long()
    width = int(x.max()) + 1
    keys, of_example = (task * width + x)[centroid].unique(return_inverse=True)
    representative = torch.zeros_like(keys).scatter_(0, of_example, centroid)
    groups = Groups(keys // width, keys % width, token[representative], of_example)

    same_x = x[tested][:, None] == groups.x
    other = same_x & (token[tested][:, None] != groups.token)
    own = same_x & (task[tested][:, None] == groups.task)
    found = (other & own.any(1, keepdim=True)).nonzero()
    if not len(found):
        raise UserError(
            "measures.interventions: no two tasks of the probe set share an x and disagree about the first token of y, "
            "so there is nothing to move from one to the other; choose other tasks, or raise data.probe_size"
        )
    chosen = found[torch.randperm(len(found), generator=generator)[:n_pairs].sort().values]
    test, target = chosen.unbind(1)
    base = tested[test]
    third = other[test] & (groups.token != groups.token[target][:, None])
    drawn = torch.where(third, torch.rand(third.shape, generator=generator), -1.0)
    members = torch.where(
        of_example == target[:, None], torch.rand(len(chosen), len(centroid), generator=generator), -1.0
    )
    return Pairs(
        centroid_examples=centroid,
        groups=groups,
        base=base,
        own=own[test].long().argmax(1),
        target=target,
        third=torch.where(third.any(1), drawn.argmax(1), -1),
        source=members.argmax(1),
        token_a=token[base],
        token_b=groups.token[target],
    )
