"""Prompts as a padded grid of tokens, with the positions that are read. Measures read texts from it; edits run it
again.

in:  token ids of prompts
out: TokenizedPrompts: ids and mask (E, T), filled up on the left; the columns of named positions; texts; token strings
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from taskcluster.data.batches import Hidden, TokenPlaces
from taskcluster.data.rows import Position, Rows

PART = "\N{REPLACEMENT CHARACTER}"  # how a part of a character is decoded


@dataclass(frozen=True)
class TokenizedPrompts:
    """E prompts, up to the token that predicts the answer.

    Attributes:
        ids: (E, T), filled up on the left.
        mask: (E, T), 1 where a prompt has a token.
        columns: {position: (N,)}, the column that is read of each state.
        examples: {position: (N,)}, the prompt of each state. Positions that several prompts share, such as
            "instruction_end", have fewer states than prompts.
        answers: the first token of each answer, (E,); None where no answers are known.
        tokenizer: makes strings of tokens.
        hidden: which tokens are hidden from which, if any; ends: the place of instruction_end in each prompt, (E,), for
            that.
    """

    ids: Tensor
    mask: Tensor
    columns: Mapping[str, Tensor]
    examples: Mapping[str, Tensor]
    answers: Tensor | None
    tokenizer: Any
    hidden: Hidden | None = None
    ends: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def lengths(self) -> Tensor:
        """Tokens of each prompt, (E,)."""
        return self.mask.sum(1)

    @cached_property
    def strings(self) -> list[list[str]]:
        """The token strings of each prompt."""
        return [self.tokenizer.convert_ids_to_tokens(ids) for ids in self.unpadded]

    @cached_property
    def texts(self) -> list[str]:
        """The text of each prompt, as its tokens spell it."""
        return [self.tokenizer.decode(ids) for ids in self.unpadded]

    @cached_property
    def pieces(self) -> list[list[str]]:
        """What each token adds to the text of its prompt: joined, they are the text. A character of several tokens
        belongs to the last of them; the others add nothing."""
        return [_pieces(self.tokenizer, ids) for ids in self.unpadded]

    @property
    def unpadded(self) -> list[list[int]]:
        """The token ids of each prompt."""
        return [ids[mask.bool()].tolist() for ids, mask in zip(self.ids, self.mask, strict=True)]

    def reads(self, position: str) -> Tensor:
        """For each state at a position the number of the read token in its prompt, (N,)."""
        padding = self.ids.shape[1] - self.lengths[self.examples[position]]
        return self.columns[position] - padding

    def texts_at(self, position: str) -> list[str]:
        """What the model has read at a position, for each state, up to and including the read token."""
        first = self.ids.shape[1] - self.lengths
        return [
            self.tokenizer.decode(self.ids[e, first[e] : column + 1])
            for e, column in zip(self.examples[position].tolist(), self.columns[position].tolist(), strict=True)
        ]

    def inputs(self, examples: Tensor, network: PreTrainedModel) -> dict[str, Any]:
        """What a network reads of prompts (B,), on its device."""
        device = network.device
        mask = self.mask[examples].to(device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        inputs = {"input_ids": self.ids[examples].to(device), "attention_mask": mask, "position_ids": positions}
        if self.hidden and self.ends is not None:
            inputs["hidden_keys"] = hidden_keys(self.hidden, mask, self.ends[examples])
        return inputs

    def states_of(self, position: str, examples: Tensor) -> Tensor:
        """The index of each prompt's state at a position, (B,); prompts that share a state follow each other."""
        return torch.searchsorted(self.examples[position], examples, right=True) - 1

    def words(self, ids: Sequence[int]) -> list[str]:
        """Tokens as text, one string each."""
        return [self.tokenizer.decode([token]) for token in ids]


def _pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Each is what is new when the tokens since the piece before the last are decoded with it, as a tokenizer may write
    a token differently without its neighbours."""
    pieces, first, done = list[str](), 0, 0
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[first:end])
        if text.endswith(PART) and end < len(ids):
            pieces.append("")
        else:
            pieces.append(text[len(tokenizer.decode(ids[first:done])) :])
            first, done = done, end
    return pieces


def hidden_keys(hidden: Hidden, mask: Tensor, ends: Tensor) -> Tensor:
    """Which tokens of prompts with a mask (B, T) are hidden from which, bool (B, T, T). ends (B,): the place of
    instruction_end in each."""
    places = mask.cumsum(1) - 1
    return hidden(TokenPlaces(places, places, ends.to(mask.device)[:, None].expand_as(mask)))


def prompts_of_rows(
    rows: Rows, tokenizer: Any, positions: Sequence[Position], hidden: Hidden | None = None
) -> TokenizedPrompts:
    """The E examples of rows, up to the token that predicts y. At "instruction_end" and "demonstrations", the
    examples of a row share the states of the first."""
    every = torch.arange(rows.n_examples)
    ids, mask, _ = rows.prompts(every, tokenizer.pad_token_id or 0)
    examples: dict[str, Tensor] = {at: rows.examples_at(at) for at in positions}
    padding = ids.shape[1] - mask.sum(1)
    return TokenizedPrompts(
        ids=ids,
        mask=mask,
        columns={at: padding[examples[at]] + rows.positions[rows.at(at)] for at in positions},
        examples=examples,
        answers=rows.targets[rows.at("answer")].long(),
        tokenizer=tokenizer,
        hidden=hidden,
        ends=rows.prefixes[rows.row_of_example] - 1,
    )


def padded_prompts(
    ids: Sequence[Sequence[int]],
    pad: int,
    reads: Mapping[str, Tensor],
    examples: Mapping[str, Tensor],
    answers: Tensor | None,
    tokenizer: Any,
) -> TokenizedPrompts:
    """Prompts of these token ids. reads: {position: (N,)}, the number of the token that is read of each state; the
    others as in `TokenizedPrompts`."""
    on_the_left: dict[str, Any] = {"batch_first": True, "padding_side": "left"}
    grid = pad_sequence([torch.tensor(prompt) for prompt in ids], padding_value=pad, **on_the_left)
    mask = pad_sequence([torch.ones(len(prompt), dtype=torch.long) for prompt in ids], **on_the_left)
    padding = grid.shape[1] - mask.sum(1)
    columns = {name: read + padding[examples[name]] for name, read in reads.items()}
    return TokenizedPrompts(grid, mask, columns, examples, answers, tokenizer)
