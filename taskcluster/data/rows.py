"""Store prompts back to back as tensors, from which batches are built and labels are read.

in:  Prompts
out: Rows: an instruction with one or several of the examples that continue it

A prompt is a prefix, the tokens before x, and a continuation, x and all that follows. A row is one prefix and the
continuations of C prompts that share it. The last token of a sequence is predicted and never read, so no row holds it.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from taskcluster.data.prompts import Labels, Prompt

Position = Literal["demonstrations", "instruction_end", "input", "answer"]

# Of a token, as bits of Rows.roles.
INSTRUCTION_END, INPUT, ANSWER, PREDICTS_Y, DEMONSTRATION = 1, 2, 4, 8, 16
ROLES: dict[Position, int] = {
    "demonstrations": DEMONSTRATION,  # the last token of the label of each demonstration
    "instruction_end": INSTRUCTION_END,
    "input": INPUT,
    "answer": ANSWER,
}
OF_ROWS = INSTRUCTION_END | DEMONSTRATION  # roles of tokens that the examples of a row share


@dataclass(frozen=True)
class Rows:
    """N rows and E examples, in S tokens without padding. All tensors are int32.

    Of each token, (S,): tokens, its id; targets, the token that follows in its sequence, pad at instruction_end, where
    every continuation of the row follows; row_of; example_of, E in a prefix; positions, its place in its sequence;
    roles, bits that tell whether it is at a named position and whether it predicts a token of y.
    Of each row, (N,): starts, its first token; prefixes, how long that is; counts, C.
    Of each example, (E,): firsts, the first token of its continuation; reads, how many tokens that has; answers, how
    many tokens y has; numbers, its Labels (E, 5).

    One more row, of a single pad and without examples, comes at the end of all that tokens and rows have. It fills the
    places of a batch that no token fills.
    """

    tokens: Tensor
    targets: Tensor
    row_of: Tensor
    example_of: Tensor
    positions: Tensor
    roles: Tensor
    starts: Tensor
    prefixes: Tensor
    counts: Tensor
    firsts: Tensor
    reads: Tensor
    answers: Tensor
    numbers: Tensor

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def n_examples(self) -> int:
        return len(self.firsts)

    @property
    def lengths(self) -> Tensor:
        """The number of tokens in each row, (N,)."""
        return self.starts.diff()

    @property
    def row_of_example(self) -> Tensor:
        """The row of each example, (E,)."""
        return self.row_of[self.firsts].long()

    @property
    def longest(self) -> int:
        """The length of the longest sequence, including its last token, which no row holds."""
        return int((self.prefixes[self.row_of_example] + self.reads).max()) + 1

    @property
    def first_examples(self) -> Tensor:
        """The first example of each row, (N,)."""
        return (self.counts.cumsum(0) - self.counts)[:-1]

    def at(self, position: Position) -> Tensor:
        """Which tokens are at a named position: one of each row, (N,), or of each example, (E,), in their order; at
        demonstrations, one of each demonstration of each row."""
        return (self.roles & ROLES[position]).nonzero().squeeze(1)

    def examples_at(self, position: Position) -> Tensor:
        """The example of each token at a position: the first of its row, where examples share it."""
        if ROLES[position] & OF_ROWS:
            return self.first_examples[self.row_of[self.at(position)]]
        return torch.arange(self.n_examples)

    @property
    def n_demonstrations(self) -> int:
        """The number of demonstrations in the row that has most."""
        return int(torch.bincount(self.row_of[self.at("demonstrations")], minlength=1).max())

    def labels(self, position: Position) -> dict[str, Tensor]:
        """Return the labels of the states at a position, as numbers in the order of `at`.

        At instruction_end, where a state does not depend on x: task, description and instruction, (N,). At
        demonstrations also demonstration, which counts them from 1 along the prompt. At input and answer: task,
        description, instruction, x and y, (E,). Equal numbers mean equal texts of one kind; tasks and
        instructions are numbered as in the family, x and y in alphabetical order.
        """
        labels = dict(zip(Labels._fields, self.numbers.unbind(1), strict=True))
        if not ROLES[position] & OF_ROWS:
            return labels
        examples = self.examples_at(position)
        shared = {name: labels[name][examples] for name in ("task", "description", "instruction")}
        if position == "demonstrations":
            order = torch.arange(len(examples))
            shared["demonstration"] = order - torch.searchsorted(examples, examples) + 1
        return shared

    def read_at(self, position: Position) -> list[list[int]]:
        """The tokens up to and including a position, all that a state there can depend on, in the order of `at`."""
        at, tokens = self.at(position), self.tokens.tolist()
        starts, prefixes = (values[self.row_of[at]] for values in (self.starts, self.prefixes))
        shared = bool(ROLES[position] & OF_ROWS)
        behind, firsts = (at + 1, at + 1) if shared else (starts + prefixes, self.firsts)
        spans = torch.stack([starts, behind, firsts, at + 1], dim=1).tolist()
        return [tokens[start:behind] + tokens[first:end] for start, behind, first, end in spans]

    def sequences(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Row and example, (n,) each, of every example of the rows with numbers `chosen`."""
        row = chosen.repeat_interleave(self.counts[chosen])
        before = (self.counts[chosen].cumsum(0) - self.counts[chosen]).repeat_interleave(self.counts[chosen])
        return row, self.first_examples[row] + torch.arange(len(row)) - before

    def prompts(self, examples: Tensor, pad: int, whole: bool = False) -> tuple[Tensor, Tensor, dict[Position, Tensor]]:
        """Examples with numbers `examples` (B,) up to the token that predicts y, or its last token if `whole`: tokens
        (B, T), filled up with `pad` on the left to the T of the longest of all examples; mask (B, T), 1 where a token
        is; and how many places before the last each position is, (B,)."""
        every_row, every_answer = self.row_of_example, self.at("answer")
        every_more = self.answers - 1 if whole else torch.zeros_like(every_answer)
        every_length = self.prefixes[every_row] + every_answer - self.firsts + 1 + every_more
        row, answers, more = every_row[examples], every_answer[examples], every_more[examples]
        prefixes, firsts, lengths = self.prefixes[row], self.firsts[examples], every_length[examples]
        longest = int(every_length.max())
        place = torch.arange(longest) - (longest - lengths)[:, None]
        within = torch.where(
            place < prefixes[:, None], self.starts[row][:, None] + place, (firsts - prefixes)[:, None] + place
        )
        mask = (place >= 0).long()
        tokens = self.tokens[within * mask].long().masked_fill(mask == 0, pad)
        back: dict[Position, Tensor] = {
            "instruction_end": answers - firsts + 1 + more,
            "input": answers - self.at("input")[examples] + more,
            "answer": more,
        }
        return tokens, mask, back

    def to(self, device: torch.device) -> "Rows":
        """The same rows on another device; nothing waits for it."""
        return Rows(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


def rows_of(prompts: Iterable[Prompt], shared: bool, pad: int = 0) -> Rows:
    """A row for every prompt or, `shared`, for every run of prompts with one task, one instruction and one prefix.

    Prompts are read once, one row's after another's, and not kept.
    """
    tokens, targets, prefixes, counts, spans, numbers, labels = (array("i") for _ in range(7))
    runs = groupby(prompts, lambda p: (p.labels.task, p.labels.instruction, p.tokens[: p.x[0]]))
    for group in (list(run) for _, run in runs) if shared else ([prompt] for prompt in prompts):
        prefix = group[0].tokens[: group[0].x[0]]
        labels.extend(len(tokens) + place for place in group[0].labels_end)
        tokens.extend(prefix)
        targets.extend([*prefix[1:], pad])
        for prompt in group:
            tokens.extend(prompt.tokens[len(prefix) : -1])
            targets.extend(prompt.tokens[len(prefix) + 1 :])
            spans.extend((*prompt.x, *prompt.y, len(prompt.tokens)))
            numbers.extend(prompt.labels)
        prefixes.append(len(prefix))
        counts.append(len(group))
    for column, value in ((tokens, pad), (targets, pad), (prefixes, 1), (counts, 0)):
        column.append(value)
    places = _places(_column(prefixes), _column(counts), _column(spans).view(-1, 5))
    columns = _column(tokens), _column(targets), *places, _column(numbers).view(-1, len(Labels._fields))
    rows = Rows(*columns)
    rows.roles[labels.tolist()] |= DEMONSTRATION
    return rows


def _column(numbers: "array[int]") -> Tensor:
    """int32, in the memory of `numbers`."""
    return torch.from_numpy(np.frombuffer(numbers, dtype=np.int32))


def _places(prefixes: Tensor, counts: Tensor, spans: Tensor) -> tuple[Tensor, ...]:
    """The fields of Rows from row_of to answers. spans (E, 5): first and end of x, first and end of y, length."""
    x_first, x_end, y_first, y_end, length = spans.unbind(1)
    reads = length - 1 - x_first
    row = _upto(len(counts)).repeat_interleave(counts)  # the row of each example
    firsts = _sum(prefixes)[row] + _sum(reads) - reads
    lengths = prefixes.index_add(0, row, reads)
    starts = _sum(lengths) - lengths
    row_of = _upto(len(counts)).repeat_interleave(lengths)

    continuation = _upto(len(reads)).repeat_interleave(reads)  # the example of each token after a prefix
    at = _upto(len(continuation)) + (firsts - _sum(reads) + reads)[continuation]
    example_of = torch.full_like(row_of, len(reads))
    example_of[at] = continuation
    positions = _upto(len(row_of)) - starts[row_of]
    within = at - (firsts - x_first)[continuation]
    positions[at] = within

    roles = torch.zeros_like(row_of)
    roles[(starts + prefixes - 1)[:-1]] = INSTRUCTION_END
    for place, role in ((x_end, INPUT), (y_first, ANSWER)):
        roles[firsts + place - 1 - x_first] |= role
    roles[at] |= PREDICTS_Y * ((within >= y_first[continuation] - 1) & (within < y_end[continuation] - 1))
    return row_of, example_of, positions, roles, starts, prefixes, counts, firsts, reads, y_end - y_first


def _upto(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.int32)


def _sum(values: Tensor) -> Tensor:
    """Cumulative, int32."""
    return values.cumsum(0, dtype=torch.int32)
