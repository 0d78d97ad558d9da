"""Myopic training: reading the last tokens of the instruction sends no gradient to them."""

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from taskcluster.data.batches import Batch
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import PREDICTS_Y
from taskcluster.objectives.objective import Objective, refuse_longer
from taskcluster.validation import validated


class Detached(Objective):
    """Losses on x and y send no gradient through the keys and values of the last instruction tokens.

    The keys and values of these tokens are constants for the queries that predict later parts, as in the myopic
    training of Wu, Morris and Levine (2024), "Do language models plan ahead for future tokens?", arXiv 2404.00859. A
    token's own prediction still teaches it, and with several tokens detached the last one's, of x, those before it. The
    numbers of the forward pass stay the same.

    Args:
        last: how many tokens of the instruction are detached, with the separator that ends it: 1 for this alone.
        later: the parts whose predictions send no gradient back. With y alone, what it reads at x still does.
    """

    needs = ("data",)

    @validated
    def __init__(
        self,
        data: SequenceDataModule,
        last: PositiveInt,
        later: Annotated[list[Literal["x", "y"]], Field(min_length=1)],
    ) -> None:
        refuse_longer(data, last)
        self._last, self._later = last, {*later}

    def detached(self, batch: Batch) -> tuple[Tensor, Tensor]:
        places = batch.token_places
        behind = places.query > places.end
        predicts_y = (batch.roles & PREDICTS_Y != 0).to(behind.device, non_blocking=True)
        parts = {"x": behind & ~predicts_y, "y": behind & predicts_y}
        keys = ~behind & (places.query > places.end - self._last)
        return torch.stack([parts[part] for part in self._later]).any(0), keys
