"""A bottleneck: x and y see the last tokens of the instruction alone."""

import random
from typing import Annotated

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from taskcluster.data.batches import Batch, TokenPlaces
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.objectives.objective import Objective, refuse_longer
from taskcluster.validation import validated


class Bottleneck(Objective):
    """What follows the instruction attends to its last tokens and to itself, not to the tokens before these.

    Args:
        last: how many tokens of the instruction stay visible, with the separator that ends it: 1 for this alone.
        probability: the fraction of training sequences with the bottleneck; those that share an instruction in a row
            have it together. Which have it at a step is a function of `data.seed` and the step.
        until: the first step without the bottleneck; None to keep it.
        measured: whether measures also run through the bottleneck; None: if `probability` is 1 and `until` None.
    """

    needs = ("data",)

    @validated
    def __init__(
        self,
        data: SequenceDataModule,
        last: PositiveInt,
        probability: Annotated[float, Field(ge=0, le=1)],
        until: NonNegativeInt | None,
        measured: bool | None,
    ) -> None:
        refuse_longer(data, last)
        self._row_of, self._seed = data.train_rows.row_of.long(), data.seed
        self._last, self._probability, self._until = last, probability, until
        self.measured = (probability == 1 and until is None) if measured is None else measured

    def hidden(self, places: TokenPlaces) -> Tensor:
        end = places.end[:, :, None]
        return (places.query[:, :, None] > end) & (places.key[:, None, :] <= end - self._last)

    def hidden_in_training(self, batch: Batch, step: int) -> Tensor | None:
        if self._probability == 0 or (self._until is not None and step >= self._until):
            return None
        hidden = self.hidden(batch.token_places)
        if self._probability == 1:
            return hidden
        of_row = self._row_of[batch.origin]
        generator = torch.Generator().manual_seed(random.Random(f"{self._seed}/bottleneck/{step}").getrandbits(63))
        drawn = torch.rand(int(self._row_of[-1]) + 1, generator=generator) < self._probability
        return hidden & drawn[of_row].to(hidden.device, non_blocking=True)[:, :, None]
