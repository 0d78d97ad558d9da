"""Examples as token sequences.

in:  Examples (instruction, x, y) of a task family
out: Sequences: rows `instruction SEP x y`, right-padded, with the place of SEP in each

One symbol of the instruction is one token; x and y are one token each, and no input token is an output token.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from taskcluster.tasks import Example, TaskFamily

Position = Literal["instruction_end", "input"]
OFFSETS: dict[Position, int] = {"instruction_end": 0, "input": 1}  # from the separator

PAD, SEP = 0, 1  # token ids; all others follow from the family


@dataclass(frozen=True)
class Sequences:
    """N sequences of up to T tokens.

    tokens (N, T) int64, padded with PAD; separators (N,) index of SEP, so x stands at separator + 1 and y at
    separator + 2; task_ids (N,), x_ids (N,) and y_ids (N,), the last two being token ids.
    """

    tokens: Tensor
    separators: Tensor
    task_ids: Tensor
    x_ids: Tensor
    y_ids: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: Tensor | slice) -> "Sequences":
        """Some of the rows, cut to the longest of them."""
        separators = self.separators[rows]
        longest = int(separators.max()) + 3 if len(separators) else 0
        return Sequences(
            self.tokens[rows, :longest], separators, self.task_ids[rows], self.x_ids[rows], self.y_ids[rows]
        )

    def to(self, device: torch.device) -> "Sequences":
        """The same sequences on another device."""
        return Sequences(*(getattr(self, field.name).to(device) for field in fields(self)))

    def index_of(self, position: Position) -> Tensor:
        """Index of a named position in every row, (N,)."""
        return self.separators + OFFSETS[position]


class Tokenizer:
    """The vocabulary of a task family: PAD, SEP, then its symbols, its inputs and its outputs, each sorted."""

    def __init__(self, family: TaskFamily) -> None:
        symbols = {s for task in family.tasks for group in task.instructions for i in group for s in i}
        inputs = {x for task in family.tasks for x in task.mapping}
        outputs = {y for task in family.tasks for y in task.mapping.values()}
        kinds = (("symbol", symbols), ("x", inputs), ("y", outputs))
        self._names = [("special", "PAD"), ("special", "SEP")]
        self._names += [(kind, name) for kind, names in kinds for name in sorted(names)]
        self._ids = {name: token for token, name in enumerate(self._names)}

    def __len__(self) -> int:
        return len(self._names)

    def encode(self, example: Example) -> list[int]:
        """Token ids of `instruction SEP x y`."""
        instruction = [self._ids["symbol", symbol] for symbol in example.instruction]
        return [*instruction, SEP, self._ids["x", example.x], self._ids["y", example.y]]

    def decode(self, tokens: Iterable[int]) -> list[str]:
        """Names of the tokens."""
        return [self._names[token][1] for token in tokens]

    def sequences(self, examples: Sequence[Example]) -> Sequences:
        """All examples as one padded batch, rows in their order."""
        rows = [self.encode(example) for example in examples]
        lengths = torch.tensor([len(row) for row in rows])
        tokens = torch.full((len(rows), int(lengths.max())), PAD)
        tokens[torch.arange(tokens.shape[1]) < lengths[:, None]] = torch.tensor([t for row in rows for t in row])
        return Sequences(
            tokens=tokens,
            separators=lengths - 3,
            task_ids=torch.tensor([example.task_id for example in examples]),
            x_ids=torch.tensor([row[-2] for row in rows]),
            y_ids=torch.tensor([row[-1] for row in rows]),
        )
