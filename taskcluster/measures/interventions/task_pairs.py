"""Pairs of tasks for interventions: a prompt of task A, and a task B whose answer it is to give.

in:  the probe set of a split
out: Pairs (A, B) that share x and disagree about y; the examples that give centroids

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

    base (P,): the tested example. a, b, third (P,): numbers of Groups with its x: that of its task A, that of B, and
    that of a task with yet another answer, -1 where there is none. source (P,): which of the C is a prompt of B.
    token_a, token_b (P,): the first tokens of the answers.
    """

    centroid_examples: Tensor
    groups: Groups
    base: Tensor
    a: Tensor
    b: Tensor
    third: Tensor
    source: Tensor
    token_a: Tensor
    token_b: Tensor

    def __len__(self) -> int:
        return len(self.base)


def halves(rows: Rows) -> tuple[Tensor, Tensor]:
    """The examples of the first, third, ... instruction of every task, and those of the others."""
    task = rows.numbers[rows.first_examples, 0].long()
    rank = torch.empty_like(task)
    for number in task.unique():
        rank[task == number] = torch.arange(int((task == number).sum()))
    odd = (rank % 2 == 1).repeat_interleave(rows.counts[:-1])
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
    possible = (other & own.any(1, keepdim=True)).nonzero()
    if not len(possible):
        raise UserError(
            "measures.interventions: no two tasks of the probe set share an x and disagree about the first token of y, "
            "so there is nothing to move from one to the other; choose other tasks, or raise data.probe_size"
        )
    test, b = possible[torch.randperm(len(possible), generator=generator)[:n_pairs].sort().values].unbind(1)
    base = tested[test]
    third = other[test] & (groups.token != groups.token[b][:, None])
    drawn = torch.where(third, torch.rand(third.shape, generator=generator), -1.0)
    source = torch.where(of_example == b[:, None], torch.rand(len(b), len(centroid), generator=generator), -1.0)
    return Pairs(
        centroid_examples=centroid,
        groups=groups,
        base=base,
        a=own[test].long().argmax(1),
        b=b,
        third=torch.where(third.any(1), drawn.argmax(1), -1),
        source=source.argmax(1),
        token_a=token[base],
        token_b=groups.token[b],
    )
