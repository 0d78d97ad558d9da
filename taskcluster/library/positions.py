"""Find the token of each prompt that is read.

in:  positions as users write them, the token strings and character offsets of each prompt
out: the number of one token of each prompt, (N,)

A position is "last", an index (negative from the end), a substring (the last token of its last occurrence), a span of
characters (start, end) (its last token), a function of the token strings that returns an index, or a list with one of
these for each prompt.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from taskcluster.validation import UserError

One = int | str | tuple[int, int] | Callable[[list[str]], int]
Where = One | Sequence[One]
Positions = Where | Mapping[str, Where]

LAST = "last"
SHOWN = 40  # characters of a prompt in a sentence


class TokenizedText(NamedTuple):
    """A prompt: its text, the strings of its tokens, and the characters (start, end) that each holds."""

    text: str
    tokens: list[str]
    offsets: list[tuple[int, int]]


def named(positions: Positions) -> dict[str, Where]:
    """Return positions by name; one without a name is named after its value."""
    if isinstance(positions, Mapping):
        if not positions:
            raise UserError('positions is empty; give "last", or {"name": position}')
        return dict(positions)
    return {positions if isinstance(positions, str) else "position": positions}


def resolve(name: str, where: Where, prompts: Sequence[TokenizedText]) -> Tensor:
    """The token of each prompt at a position, (N,). Raises UserError, naming the prompt, where there is none."""
    each: Sequence[One] = [where] * len(prompts)  # type: ignore[list-item]
    if isinstance(where, Sequence) and not isinstance(where, str | tuple):
        each = where
    if len(each) != len(prompts):
        raise UserError(f"positions[{name!r}] has {len(each)} entries for {len(prompts)} prompts; give one for each")
    return torch.tensor(
        [_token(name, one, k, prompt) for k, (one, prompt) in enumerate(zip(each, prompts, strict=True))]
    )


def _token(name: str, one: One, number: int, prompt: TokenizedText) -> int:
    n = len(prompt.tokens)
    if callable(one):
        one = one(prompt.tokens)
    if isinstance(one, str) and one != LAST:
        start = prompt.text.rfind(one) if one else -1
        if start < 0:
            raise UserError(
                f"positions[{name!r}]: {one!r} is not in prompt {number} ({_short(prompt.text)!r}); give a text that "
                "every prompt contains, or a list with one text per prompt"
            )
        one = start, start + len(one)
    if isinstance(one, tuple):
        return _at_characters(name, one, number, prompt)
    index = n - 1 if one == LAST else one
    if not isinstance(index, int) or isinstance(index, bool):
        raise UserError(
            f"positions[{name!r}]={one!r} is not a position; give 'last', an index, a text, a span (start, end) or a "
            "function of the token strings"
        )
    if not -n <= index < n:
        raise UserError(f"positions[{name!r}]={index} is outside prompt {number}, which has {n} tokens")
    return index % n


def _at_characters(name: str, span: tuple[int, int], number: int, prompt: TokenizedText) -> int:
    """The last token that holds a character of the span."""
    start, end = span
    tokens = [k for k, (first, last) in enumerate(prompt.offsets) if first < end and start < last]
    if not tokens or start < 0 or end > len(prompt.text):
        raise UserError(
            f"positions[{name!r}]={span} contains no token of prompt {number}, which has {len(prompt.text)} characters"
        )
    return tokens[-1]


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"...{text[-SHOWN:]}"
