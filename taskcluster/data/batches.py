"""Build batches for a causal language model from rows, and compute the loss.

in:  Rows, and the numbers of those to take
out: Batch: a grid of B x T places, packed or padded

Packed batches put several rows in a line, so that few places stay empty, and compute the prefix of a row once for all
its continuations. Each continuation begins at the same position, right after the prefix, and sees the prefix and itself
alone, so every state, the loss and its gradient are those of its C sequences one by one: the prefix's own tokens count
C times, and its last one predicts the first of every continuation. This needs a model that takes a mask of (T, T).

Padded batches have one line per sequence, which any causal model accepts: same states, same loss, same gradient.

Where the network has a cache of the tokens that all rows begin with, a batch can begin after these.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from taskcluster.data.rows import ANSWER, OF_ROWS, PREDICTS_Y, ROLES, Position, Rows

WIDTH = 48  # places in a line of the grid, unless one row is longer: attention grows with it, empty places shrink
ROOM = 1.25  # lines of a fixed grid, times what the rows of a batch fill on average

LossOn = Literal["sequence", "y"]
Padding = Literal["left", "right"]


class Weights(NamedTuple):
    """The weight of each part's tokens in the loss. x: includes the text around it that does not belong to y."""

    instruction: float
    x: float
    y: float


WEIGHTS: dict[LossOn, Weights] = {"sequence": Weights(1.0, 1.0, 1.0), "y": Weights(0.0, 0.0, 1.0)}


class TokenPlaces(NamedTuple):
    """From which attention masks are made. query (B, Q), key (B, K): the place of each query token, and of each key
    token that these can attend to, in its sequence. end (B, Q): the place of instruction_end in the sequence of each
    query."""

    query: Tensor
    key: Tensor
    end: Tensor


Hidden = Callable[[TokenPlaces], Tensor]  # which keys are hidden from which queries, bool (B, Q, K)


class Batch(NamedTuple):
    """Where the network is, but for `origin` and `roles`: these are on the CPU, so that their number is known without
    waiting for the device.

    tokens, positions (B, T). mask: packed, (B, 1, T, S + T), True where a place (third axis) may look at another
    (fourth); padded, (B, S + T), 1 where there is a token and 0 elsewhere. S: tokens of the shared prefix, if any.

    origin (B, T): which token of `Rows` is there; roles (B, T): what that one's are. ends (B, T): the column of
    its sequence's instruction_end. targets (B, T): what each place predicts, which weighs `weights` (B, T) in the loss.
    input_weights (B, T): what the prediction of this place's own token at instruction_end weighs, where it is the first
    of a continuation. total: the sum of all weights, those of other processes included, divided by the number of
    processes. on_y: whether y alone has weights.
    """

    tokens: Tensor
    positions: Tensor
    mask: Tensor
    origin: Tensor
    roles: Tensor
    ends: Tensor
    targets: Tensor
    weights: Tensor
    input_weights: Tensor
    total: float
    on_y: bool

    @property
    def inputs(self) -> dict[str, Any]:
        return {"input_ids": self.tokens, "position_ids": self.positions, "attention_mask": self.mask}

    @property
    def token_places(self) -> TokenPlaces:
        """Where its tokens, and those of a shared prefix before them, are in their sequences."""
        skipped = torch.arange(self.mask.shape[-1] - self.tokens.shape[1], device=self.tokens.device)
        key = torch.cat([skipped.expand(len(self.tokens), -1), self.positions], dim=1)
        return TokenPlaces(self.positions, key, self.positions.gather(1, self.ends))

    def places(self, position: Position) -> tuple[Tensor, Tensor]:
        """Lines and columns of a named position, one of each row or of each example, in the order of `Rows.at`."""
        line, column = self._known(position)
        return line.to(self.tokens.device, non_blocking=True), column.to(self.tokens.device, non_blocking=True)

    def tokens_at(self, position: Position) -> Tensor:
        """Which tokens of `Rows` are at the places of a named position, on the CPU."""
        return self.origin[self._known(position)]

    def _known(self, position: Position) -> tuple[Tensor, Tensor]:
        """`places` on the CPU."""
        line, column = (self.roles & ROLES[position]).nonzero(as_tuple=True)
        order = self.origin[line, column].argsort()
        return line[order], column[order]

    @property
    def predicting_y(self) -> tuple[Tensor, Tensor]:
        """Lines and columns of the K places that predict a token of y; those of an example follow each other."""
        places = (self.roles & PREDICTS_Y).nonzero().to(self.tokens.device, non_blocking=True)
        return places[:, 0], places[:, 1]

    def loss(self, logits: Tensor) -> Tensor:
        """Mean next-token cross-entropy, in nats, of logits (B, T, V); where the loss is on y alone, also of the logits
        (K, V) at `predicting_y`."""
        log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        if log_p.ndim == 2:
            targets, weights = self.targets[self.predicting_y], self.weights[self.predicting_y]
            return -(log_p.gather(1, targets[:, None]).squeeze(1) * weights).sum() / self.total
        at_places = log_p.gather(2, self.targets[:, :, None]).squeeze(2)
        at_ends = log_p.flatten(1).gather(1, self.ends * logits.shape[2] + self.tokens)
        return -(at_places * self.weights + at_ends * self.input_weights).sum() / self.total

    def correct(self, logits: Tensor) -> Tensor:
        """Whether every token of y is the likeliest by logits (B, T, V) or, at `predicting_y`, (K, V), as it then is in
        greedy decoding; bool, one of each example, in the order of `Rows`."""
        at_y = logits if logits.ndim == 2 else logits[self.predicting_y]
        wrong = (at_y.argmax(-1) != self.targets[self.predicting_y]).long()
        known = (self.roles & PREDICTS_Y).nonzero(as_tuple=True)
        begins = (self.roles[known] & ANSWER) != 0
        example, order = begins.cumsum(0) - 1, self.origin[known][begins].argsort().to(wrong.device, non_blocking=True)
        return torch.zeros_like(order).index_add(0, example.to(wrong.device, non_blocking=True), wrong)[order] == 0


def shared_prefix_length(rows: Rows) -> int:
    """The number of tokens that all rows begin with, none of which is at a named position."""
    most = int(rows.positions[rows.roles > 0].min())
    begins = rows.tokens[rows.starts[:-1, None] + torch.arange(most)]
    return int((begins == begins[0]).all(0).long().cumprod(0).sum())


class Packer:
    """Batches of `rows`, which stay on `device` from the start; nothing waits for it.

    weights: of the parts of a sequence in the loss, or their name. padding: the side of a sequence on which a line is
    filled up, or None for packed batches. skip: the tokens of a
    shared prefix that the batches do not have, where the loss is on y. width: of every padded line; by default that
    of the longest sequence in the batch. n_rows: of every batch, which then all have the same shape, as compiled code
    needs; a packed batch that does not fit has a multiple of its lines.
    """

    def __init__(
        self,
        rows: Rows,
        weights: LossOn | Weights,
        device: torch.device,
        padding: Padding | None = None,
        skip: int = 0,
        width: int | None = None,
        n_rows: int | None = None,
    ) -> None:
        self._rows, self._resident, self._padding, self._skip, self._width = rows, rows.to(device), padding, skip, width
        self._grid: tuple[int, int] | None = None  # lines, or a multiple of them, and width of every packed batch
        if n_rows and padding:
            self._width = rows.longest - 1 - skip
        elif n_rows:
            longest = max(WIDTH, int(rows.lengths.max()))
            self._grid = math.ceil(ROOM * n_rows * float(rows.lengths.double().mean()) / longest), longest
        of_instruction, of_x, of_y = WEIGHTS[weights] if isinstance(weights, str) else weights
        here, self._on_y = self._resident, not (of_instruction or of_x)
        inside = here.positions < here.prefixes[here.row_of] - 1  # inside a prefix, before its end
        times = here.counts[here.row_of] if padding is None else 1
        self._weights = of_x * (here.example_of < rows.n_examples) + torch.where(inside, of_instruction * times, 0.0)
        self._weights[here.roles & PREDICTS_Y != 0] = of_y
        self._input_weights = torch.zeros_like(self._weights).index_fill_(0, here.firsts.long(), of_x)
        self._opens = torch.zeros(rows.n_examples, dtype=torch.bool).index_fill_(0, rows.first_examples, True)
        row = rows.row_of[rows.firsts]
        others = of_instruction * (rows.prefixes[row] - 1).double() + of_x * (rows.reads + 1 - rows.answers)
        predictions = others + of_y * rows.answers
        self._predictions = torch.zeros(len(rows), dtype=predictions.dtype).index_add(0, row, predictions)

    def __call__(self, chosen: Tensor, rank: int = 0, world_size: int = 1) -> Batch:
        """The rows with numbers `chosen`, (n,); of these, process `rank` gets every `world_size`-th."""
        rows, share, padded = self._resident, chosen[rank::world_size], self._padding is not None
        known = self._pad(share) if padded else self._pack(share)
        roles, origin = self._rows.roles[known], known.to(rows.tokens.device, non_blocking=True)
        row, example, positions = rows.row_of[origin], rows.example_of[origin], rows.positions[origin].long()
        column = torch.arange(origin.shape[1], device=origin.device)
        if padded:
            first = column - positions  # the column where the sequence begins, or the row
            again = (~self._opens)[self._rows.example_of[known].amin(1)]  # lines of a row that has a line already
            roles = roles & torch.where(again, ~OF_ROWS, -1)[:, None]
            mask = (row < len(rows)).long()
        else:
            first = column - (origin - rows.starts[row])
            related = (example[:, :, None] == example[:, None, :]) | (example == rows.n_examples)[:, None, :]
            mask = ((first[:, :, None] == first[:, None, :]) & (column[:, None] >= column) & related)[:, None]
        if self._skip:
            mask = torch.cat([mask.new_ones(*mask.shape[:-1], self._skip), mask], dim=-1)
        return Batch(
            tokens=rows.tokens[origin].long(),
            positions=positions,
            mask=mask,
            origin=known,
            roles=roles,
            ends=first + rows.prefixes[row] - 1,
            targets=rows.targets[origin].long(),
            weights=self._weights[origin],
            input_weights=self._input_weights[origin],
            total=float(self._predictions[chosen].sum()) / world_size,
            on_y=self._on_y,
        )

    def _pack(self, chosen: Tensor) -> Tensor:
        """The grid (B, T) of token numbers, each line filled with rows, longest first, while they fit."""
        starts, lengths = self._rows.starts[chosen] + self._skip, self._rows.lengths[chosen] - self._skip
        lines, width = self._grid or (1, max(WIDTH, int(lengths.max())))
        room: list[int] = []
        first = torch.empty(len(chosen), dtype=torch.long)  # where in the flat grid each row begins
        for row in lengths.argsort(descending=True, stable=True).tolist():
            length = int(lengths[row])
            line = next((k for k, left in enumerate(room) if left >= length), len(room))
            room += [width] * (line == len(room))
            first[row] = line * width + width - room[line]
            room[line] -= length
        # By numpy: torch's repeat_interleave waits for every one of its threads.
        before, begin = (np.repeat(values.numpy(), lengths.numpy()) for values in (first, starts))
        within = np.arange(int(lengths.sum())) - np.repeat((lengths.cumsum(0) - lengths).numpy(), lengths.numpy())
        lines *= math.ceil(len(room) / lines)
        origin = torch.full((lines * width,), len(self._rows.tokens) - 1)
        origin[torch.from_numpy(before + within)] = torch.from_numpy(begin + within)
        return origin.view(lines, width)[:, : width if self._grid else width - min(room)]

    def _pad(self, chosen: Tensor) -> Tensor:
        """The grid (B, T) of token numbers, a line for every example."""
        row, example = self._rows.sequences(chosen)
        prefixes = self._rows.prefixes[row][:, None]
        lengths = prefixes + self._rows.reads[example][:, None] - self._skip
        width = self._width or int(lengths.max())
        place = torch.arange(width).expand(len(row), -1)
        place = place - (width - lengths) if self._padding == "left" else place
        inside, place = (place >= 0) & (place < lengths), place + self._skip
        in_prefix = self._rows.starts[row][:, None] + place
        behind = self._rows.firsts[example][:, None] + place - prefixes
        return torch.where(place < prefixes, in_prefix, behind).long().masked_fill(~inside, len(self._rows.tokens) - 1)
