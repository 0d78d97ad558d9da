"""Prompts back to back, as tensors: what batches are made of and measures read labels from.

in:  Prompts
out: Rows: an instruction with one or several of the examples that continue it

A prompt is a prefix, the tokens before x, and a continuation, x and all that follows. A row is one prefix and the
continuations of C prompts that share it. The last token of a sequence is predicted and never read, so no row holds it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor

from taskcluster.data.prompts import Labels, Prompt

Position = Literal["instruction_end", "input", "answer"]

# Of a token, as bits of Rows.roles.
INSTRUCTION_END, INPUT, ANSWER, PREDICTS_Y = 1, 2, 4, 8
ROLES: dict[Position, int] = {"instruction_end": INSTRUCTION_END, "input": INPUT, "answer": ANSWER}


@dataclass(frozen=True)
class Rows:
    """N rows and E examples, in S tokens without padding. All tensors are int32.

    Of each token, (S,): tokens, its id; targets, the token that follows in its sequence, pad at instruction_end, where
    every continuation of the row follows; row_of; example_of, E in a prefix; positions, its place in its sequence;
    roles, as bits: whether it is at a named position, and whether it predicts a token of y.
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
        """Tokens of each row, (N,)."""
        return self.starts.diff()

    @property
    def first_examples(self) -> Tensor:
        """The first example of each row, (N,)."""
        counts = self.counts[:-1]
        return counts.cumsum(0) - counts

    def at(self, position: Position) -> Tensor:
        """Which tokens are at a named position: one of each row, (N,), or of each example, (E,), in their order."""
        return (self.roles & ROLES[position]).nonzero().squeeze(1)

    def labels(self, position: Position) -> dict[str, Tensor]:
        """What the states at a position can be grouped by, as numbers in the order of `at`.

        At instruction_end, where a state does not depend on x: task, description and instruction, (N,). At input and
        answer: task, description, instruction, x and y, (E,). Equal numbers mean equal texts of one kind; tasks and
        instructions are numbered as in the family, x and y in alphabetical order.
        """
        if position == "instruction_end":
            numbers = self.numbers[self.first_examples]
            return dict(zip(Labels._fields[:3], numbers[:, :3].unbind(1), strict=True))
        return dict(zip(Labels._fields, self.numbers.unbind(1), strict=True))

    def sequences(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Row and example, (n,) each, of every example of the rows with numbers `chosen`."""
        counts = self.counts[chosen]
        row = chosen.repeat_interleave(counts)
        before = (counts.cumsum(0) - counts).repeat_interleave(counts)
        return row, self.first_examples[row] + torch.arange(len(row)) - before

    def prompts(self, examples: Tensor, pad: int, whole: bool = False) -> tuple[Tensor, Tensor, dict[Position, Tensor]]:
        """Examples with numbers `examples` (B,) up to the token that predicts y, or its last token if `whole`: tokens
        (B, T), filled up with `pad` on the left; mask (B, T), 1 where a token is; and how many places before the last
        each position is, (B,)."""
        row = torch.arange(len(self.counts)).repeat_interleave(self.counts)[examples]
        prefixes, firsts, answers = self.prefixes[row], self.firsts[examples], self.at("answer")[examples]
        more = self.answers[examples] - 1 if whole else torch.zeros_like(answers)
        lengths = prefixes + answers - firsts + 1 + more
        place = torch.arange(int(lengths.max())) - (lengths.max() - lengths)[:, None]
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

    def answer_tokens(self, examples: Tensor) -> tuple[Tensor, Tensor]:
        """y of examples with numbers `examples` (B,), which the last places of their whole `prompts` predict: tokens
        (B, K), filled up on the left to the K of the longest; mask (B, K), whether there is one."""
        first, n = self.at("answer")[examples], self.answers[examples]
        place = torch.arange(int(n.max())) - (n.max() - n)[:, None]
        return self.targets[first[:, None] + place.clamp(min=0)].long(), place >= 0

    def to(self, device: torch.device) -> "Rows":
        """The same rows on another device; nothing waits for it."""
        return Rows(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


def rows_of(prompts: Sequence[Prompt], shared: bool, pad: int = 0) -> Rows:
    """A row for every prompt or, `shared`, for every run of prompts with one task, one instruction and one prefix."""

    def beginning(prompt: Prompt) -> tuple[int, int, Sequence[int]]:
        return prompt.labels.task, prompt.labels.instruction, prompt.tokens[: prompt.x[0]]

    groups = [list(group) for _, group in groupby(prompts, beginning)] if shared else [[prompt] for prompt in prompts]
    tokens, targets = list[int](), list[int]()
    for group in groups:
        prefix = group[0].tokens[: group[0].x[0]]
        tokens += prefix
        targets += [*prefix[1:], pad]
        for prompt in group:
            tokens += prompt.tokens[len(prefix) : -1]
            targets += prompt.tokens[len(prefix) + 1 :]
    prefixes = torch.tensor([*(group[0].x[0] for group in groups), 1])
    counts = torch.tensor([*map(len, groups), 0])
    spans = torch.tensor([(*prompt.x, *prompt.y, len(prompt.tokens)) for prompt in prompts])
    numbers = torch.tensor([prompt.labels for prompt in prompts])
    columns = torch.tensor([*tokens, pad]), torch.tensor([*targets, pad]), *_places(prefixes, counts, spans), numbers
    return Rows(*(column.int() for column in columns))


def _places(prefixes: Tensor, counts: Tensor, spans: Tensor) -> tuple[Tensor, ...]:
    """The fields of Rows from row_of to answers. spans (E, 5): first and end of x, first and end of y, length."""
    x_first, x_end, y_first, y_end, length = spans.unbind(1)
    reads = length - 1 - x_first
    row = torch.arange(len(counts)).repeat_interleave(counts)  # of each example
    firsts = prefixes.cumsum(0)[row] + reads.cumsum(0) - reads
    lengths = prefixes.index_add(0, row, reads)
    starts = lengths.cumsum(0) - lengths
    row_of = torch.arange(len(counts)).repeat_interleave(lengths)

    continuation = torch.arange(len(reads)).repeat_interleave(reads)  # the example of each token after a prefix
    within = torch.arange(len(continuation)) - (reads.cumsum(0) - reads)[continuation]
    at = firsts[continuation] + within
    example_of = torch.full_like(row_of, len(reads)).index_copy(0, at, continuation)
    positions = torch.arange(len(row_of)) - starts[row_of]
    positions[at] = x_first[continuation] + within

    roles = torch.zeros_like(row_of)
    roles[(starts + prefixes - 1)[:-1]] = INSTRUCTION_END
    for place, role in ((x_end, INPUT), (y_first, ANSWER)):
        roles[firsts + place - 1 - x_first] |= role
    own = positions[at]
    roles[at] |= PREDICTS_Y * ((own >= y_first[continuation] - 1) & (own < y_end[continuation] - 1))
    return row_of, example_of, positions, roles, starts, prefixes, counts, firsts, reads, y_end - y_first
