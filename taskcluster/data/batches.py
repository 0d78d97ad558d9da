"""Rows as one batch of a causal language model, and the loss over it.

in:  Rows, and the numbers of those to take
out: Batch: a grid of B x T places in which rows lie one behind the other, so that few places stay empty

The prefix `instruction SEP` of a row is computed once for all its examples. Each of x1 .. xC stands at the same
position, right after SEP, and sees the prefix and itself alone, so every state, the loss and its gradient are those of
the C sequences `instruction SEP x y` one by one: the instruction's own tokens count C times, SEP predicts every x.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from taskcluster.data.tokenizer import SEP, Rows

WIDTH = 48  # places in a line of the grid, unless one row is longer: attention grows with it, empty places shrink

Position = Literal["instruction_end", "input"]
LossOn = Literal["sequence", "y"]


class Batch(NamedTuple):
    """tokens, positions (B, T); mask (B, 1, T, T): True where a place (third axis) may look at another (fourth).

    origin (B, T): which token of `Rows` stands there. separators (B, T): the column of the own row's SEP.
    targets (B, T): what each place predicts, which weighs `weights` (B, T) in the loss. input_weights (B, T): what the
    prediction of this place's own token at SEP weighs, where it is an x. total: the sum of all weights, those of other
    processes included, divided by the number of processes.
    """

    tokens: Tensor
    positions: Tensor
    mask: Tensor
    origin: Tensor
    separators: Tensor
    targets: Tensor
    weights: Tensor
    input_weights: Tensor
    total: float

    @property
    def inputs(self) -> dict[str, Any]:
        """What the network reads."""
        return {"input_ids": self.tokens, "position_ids": self.positions, "attention_mask": self.mask}

    def places(self, position: Position) -> tuple[Tensor, Tensor]:
        """Lines and columns of a named position, in the order of `Rows`: SEP of each row, or x of each example."""
        columns = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        wanted = self.tokens == SEP if position == "instruction_end" else columns > self.separators
        line, column = wanted.nonzero(as_tuple=True)
        order = self.origin[line, column].argsort()
        return line[order], column[order]

    def loss(self, logits: Tensor) -> Tensor:
        """Mean next-token cross-entropy, in nats, of logits (B, T, V)."""
        log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        own = log_p.gather(2, self.targets[:, :, None]).squeeze(2)
        at_separator = log_p.flatten(1).gather(1, self.separators * logits.shape[2] + self.tokens)
        return -(own * self.weights + at_separator * self.input_weights).sum() / self.total


class Packer:
    """Batches of `rows`, which stay on `device` from the start; nothing waits for it."""

    def __init__(self, rows: Rows, loss_on: LossOn, device: torch.device) -> None:
        self._rows, self._resident, self._loss_on = rows, rows.to(device), loss_on

    def __call__(self, chosen: Tensor, rank: int = 0, world_size: int = 1) -> Batch:
        """The rows with numbers `chosen`, (n,); of these, process `rank` gets every `world_size`-th."""
        rows, whole = self._resident, float(self._loss_on == "sequence")
        origin = self._lay_out(chosen[rank::world_size]).to(rows.tokens.device, non_blocking=True)
        row = rows.row_of[origin]
        place, separator, count = origin - rows.starts[row], rows.separators[row], rows.counts[row]
        column = torch.arange(origin.shape[1], device=origin.device)
        first = column - place  # the column where the own row begins
        is_x = place > separator
        visible = (column[:, None] > column) & ~is_x[:, None, :] | (column[:, None] == column)
        mask = (first[:, :, None] == first[:, None, :]) & visible
        of_symbols = torch.where(place < separator, count, 0.0)
        return Batch(
            tokens=rows.tokens[origin].long(),
            positions=torch.minimum(place, separator + 1),
            mask=mask[:, None],
            origin=origin,
            separators=first + separator,
            targets=rows.targets[origin].long(),
            weights=is_x + whole * of_symbols,
            input_weights=whole * is_x,
            total=self._total(chosen) / world_size,
        )

    def _total(self, chosen: Tensor) -> int:
        counts = self._rows.counts[chosen]
        each = 1 if self._loss_on == "y" else self._rows.separators[chosen] + 2  # predictions of a sequence
        return int((counts * each).sum())

    def _lay_out(self, chosen: Tensor) -> Tensor:
        """The grid (B, T) of token numbers, each line filled with rows, longest first, while they fit."""
        starts, lengths = self._rows.starts[chosen], self._rows.lengths[chosen]
        width = max(WIDTH, int(lengths.max()))
        room: list[int] = []
        first = torch.empty(len(chosen), dtype=torch.long)  # where in the flat grid each row begins
        for row in lengths.argsort(descending=True, stable=True).tolist():
            length = int(lengths[row])
            line = next((k for k, left in enumerate(room) if left >= length), len(room))
            room += [width] * (line == len(room))
            first[row] = line * width + width - room[line]
            room[line] -= length
        within = torch.arange(int(lengths.sum())) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        origin = torch.full((len(room) * width,), len(self._rows.tokens) - 1)
        origin[first.repeat_interleave(lengths) + within] = starts.repeat_interleave(lengths) + within
        return origin.view(len(room), width)[:, : width - min(room)]
