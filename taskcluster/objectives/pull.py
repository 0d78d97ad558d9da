"""Pull states of one task together, or push them apart, beside the loss on tokens."""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveFloat
from torch import Tensor

from taskcluster.data.batches import Batch
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import OF_ROWS, ROLES, Position
from taskcluster.objectives.objective import Objective
from taskcluster.validation import Seed, validated


def contrastive_loss(states: Tensor, groups: Tensor, cells: Tensor, temperature: float) -> Tensor:
    """The supervised contrastive loss of Khosla et al. (2020), equation 2, with cosine similarity, in nats.

    Of states (M, D) with groups (M,), each is compared with the others of its cell (M,). Mean over the states that have
    another of their group there; 0 if none has.
    """
    directions = torch.nn.functional.normalize(states, dim=1)
    similarity = (directions @ directions.T / temperature).float()
    others = ~torch.eye(len(states), dtype=torch.bool, device=states.device) & (cells[:, None] == cells)
    same = others & (groups[:, None] == groups)
    log_p = similarity - similarity.masked_fill(~others, -torch.inf).logsumexp(1, keepdim=True)
    n = same.sum(1)
    of_each = log_p.where(same, 0.0).sum(1) / n.clamp(min=1)
    return -of_each.sum() / (n > 0).sum().clamp(min=1)


class Pull(Objective):
    """Pulls states of one task together and away from those of other tasks; a negative weight pushes instead.

    At a position after x, only states of the same x are compared. Each process of several compares its share
    of a batch.

    Args:
        weight: of this loss, beside the mean next-token loss.
        at: the position.
        layers: the mean over these; 0 is the embedding output.
        temperature: what cosine similarities are divided by.
        labels: "task"; or "random", a control: the tasks' labels, assigned to the training instructions at random.
        seed: of the control.

    Raises:
        ValueError: the tasks have no such position, or the model no such layer.
    """

    needs = ("data", "n_layer")

    @validated
    def __init__(
        self,
        data: SequenceDataModule,
        n_layer: int,
        weight: FiniteFloat,
        at: Position,
        layers: Annotated[list[NonNegativeInt], Field(min_length=1)],
        temperature: PositiveFloat,
        labels: Literal["task", "random"],
        seed: Seed,
    ) -> None:
        rows = data.train_rows
        if not (rows.roles & ROLES[at]).any():
            raise ValueError(f"at={at!r}: the prompts of these tasks have no such position; choose instruction_end")
        if max(layers) > n_layer:
            raise ValueError(f"layers={layers}: the model has layers 0 to {n_layer}; lower it")
        self._weight, self._at, self._layers, self._temperature = weight, at, layers, temperature
        self.reads = (at,)
        task = rows.numbers[rows.first_examples, 0]
        if labels == "random":
            task = task[_dealt(rows.numbers[rows.first_examples, 2], seed)]
        self._task = torch.cat([task, task.new_tensor([-1])])[rows.row_of]  # the task of each token
        x = rows.numbers[:, 3]
        of_example = torch.cat([x, x.new_tensor([-1])])[rows.example_of]
        self._cell = torch.zeros_like(of_example) if ROLES[at] & OF_ROWS else of_example

    def auxiliary(self, states: Mapping[Position, Tensor], batch: Batch, step: int) -> Tensor:
        at_position, tokens = states[self._at], batch.tokens_at(self._at)
        groups, cells = (of[tokens].to(at_position.device, non_blocking=True) for of in (self._task, self._cell))
        losses = [contrastive_loss(at_position[k], groups, cells, self._temperature) for k in self._layers]
        return self._weight * torch.stack(losses).mean()


def _dealt(instruction: Tensor, seed: int) -> Tensor:
    """For each row (N,) the number of another row whose label it takes: rows of one instruction take the same."""
    distinct, of_row = instruction.unique(return_inverse=True)
    first = torch.zeros_like(distinct, dtype=torch.long).scatter_(0, of_row, torch.arange(len(of_row)))
    return first[torch.randperm(len(first), generator=torch.Generator().manual_seed(seed))][of_row]
