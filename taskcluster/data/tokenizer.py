"""Examples as token sequences.

in:  Examples (instruction, x, y) of a task family
out: Rows: `instruction SEP x1 .. xC`, an instruction with one or several of the examples that continue it

One symbol of the instruction is one token; x and y are one token each, and no input token is an output token.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import groupby

import torch
from torch import Tensor

from taskcluster.tasks.family import Example, TaskFamily

PAD, SEP = 0, 1  # token ids; all others follow from the family


@dataclass(frozen=True)
class Rows:
    """N rows back to back in S tokens, without padding. y is predicted and never read, so no row holds it.

    tokens (S,); targets (S,): the token that follows, y at x; PAD at SEP, where every x of the row follows.
    row_of (S,): the row of each token. starts (N,): each row's first token; separators (N,): SEP's place in the row;
    counts (N,): C, its examples; task_ids (N,). All int32.

    One more row stands at the end of every tensor and does not count: a single PAD, for the places of a batch that
    no token fills.
    """

    tokens: Tensor
    targets: Tensor
    row_of: Tensor
    starts: Tensor
    separators: Tensor
    counts: Tensor
    task_ids: Tensor

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Tensor:
        """Tokens of each row, (N,)."""
        return (self.separators + self.counts + 1)[:-1]

    @property
    def examples(self) -> Tensor:
        """Where the x of every example stands in `tokens`, (E,)."""
        index = torch.arange(len(self.tokens), device=self.tokens.device)
        return index[index - self.starts[self.row_of] > self.separators[self.row_of]]

    def to(self, device: torch.device) -> "Rows":
        """The same rows on another device."""
        return Rows(*(getattr(self, field.name).to(device) for field in fields(self)))


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

    def decode(self, tokens: Iterable[int]) -> list[str]:
        """Names of the tokens."""
        return [self._names[token][1] for token in tokens]

    def rows(self, examples: Sequence[Example], shared: bool) -> Rows:
        """A row for every example or, `shared`, for every run of examples with one task and one instruction."""
        groups = [list(g) for _, g in groupby(examples, lambda e: e[:2])] if shared else [[e] for e in examples]
        tokens: list[int] = []
        targets: list[int] = []
        separators: list[int] = []
        for group in groups:
            instruction = [self._ids["symbol", symbol] for symbol in group[0].instruction]
            inputs = [self._ids["x", example.x] for example in group]
            tokens += [*instruction, SEP, *inputs]
            targets += [*instruction[1:], SEP, PAD, *(self._ids["y", example.y] for example in group)]
            separators.append(len(instruction))
        counts = [*map(len, groups), 0]
        task_ids = [*(group[0].task_id for group in groups), -1]
        lengths = torch.tensor([*separators, 0]) + torch.tensor(counts) + 1
        columns = (
            torch.tensor([*tokens, PAD]),
            torch.tensor([*targets, PAD]),
            torch.arange(len(lengths)).repeat_interleave(lengths),
            lengths.cumsum(0) - lengths,
            torch.tensor([*separators, 0]),
            torch.tensor(counts),
            torch.tensor(task_ids),
        )
        return Rows(*(column.int() for column in columns))
