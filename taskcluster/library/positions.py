"""Find the token of each prompt that is read.

in:  positions as users write them, the token strings and character offsets of each prompt
out: the number of one token of each prompt, (N,)

A position is "last", an index (negative from the end), a substring (the last token of its last occurrence), a span of
characters (start, end) (its last token), a function of the token strings that returns an index, or a list with one of
these for each prompt.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

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
        if not positions or not all(isinstance(name, str) for name in positions):
            raise UserError(f'positions={positions}: give "last", or {{"name": position}} with texts as names')
        return dict(positions)
    return {positions if isinstance(positions, str) else "position": positions}


def resolve(name: str, where: Where, prompts: Sequence[TokenizedText]) -> Tensor:
    """The token of each prompt at a position, (N,). Raises UserError, naming the prompt, where there is none."""
    where = _plain(where)
    each: Sequence[One] = [where] * len(prompts)  # type: ignore[list-item]
    if isinstance(where, Sequence) and not isinstance(where, str | tuple):
        each = where
    if len(each) != len(prompts):
        raise UserError(f"positions[{name!r}] has {len(each)} entries for {len(prompts)} prompts; give one for each")
    return torch.tensor(
        [_token(name, one, k, prompt) for k, (one, prompt) in enumerate(zip(each, prompts, strict=True))]
    )


def _plain(values: Any) -> Any:
    """An array, tensor or series as a list, a number of theirs as a number, anything else as it is."""
    return next((getattr(values, name)() for name in ("tolist", "to_list") if hasattr(values, name)), values)


def _token(name: str, one: One, number: int, prompt: TokenizedText) -> int:
    n = len(prompt.tokens)
    if callable(one):
        try:
            one = one(prompt.tokens)
        except Exception as error:  # any error of a user's function
            raise UserError(
                f"positions[{name!r}]: the function fails on prompt {number} ({_short(prompt.text)!r}) with "
                f"{type(error).__name__}: {error}"
            ) from error
    one = _plain(one)
    if isinstance(one, str) and one != LAST:
        start = prompt.text.rfind(one) if one else -1
        if start < 0:
            raise UserError(
                f"positions[{name!r}]: {one!r} is not in prompt {number} ({_short(prompt.text)!r}); give a text that "
                "every prompt contains, or a list with one text per prompt"
            )
        one = start, start + len(one)
    if isinstance(one, tuple) and len(one) == 2 and all(isinstance(_plain(end), int) for end in one):
        return _at_characters(name, one, number, prompt)
    index = n - 1 if one == LAST else one
    if not isinstance(index, int) or isinstance(index, bool):
        raise UserError(
            f"positions[{name!r}]={one!r} is not a position; give 'last', an index, a text, a span (start, end), a "
            "function of the token strings, or a list with one of these per prompt"
        )
    if not -n <= index < n:
        raise UserError(f"positions[{name!r}]={index} is outside prompt {number}, which has {n} tokens")
    return index % n


def _at_characters(name: str, span: tuple[int, int], number: int, prompt: TokenizedText) -> int:
    """The last token that holds a character of the span."""
    start, end = span
    tokens = [k for k, (first, last) in enumerate(prompt.offsets) if first < end and start < last]
    if not tokens or not 0 <= start < end <= len(prompt.text):
        raise UserError(
            f"positions[{name!r}]={span} contains no token of prompt {number}, which has {len(prompt.text)} characters"
        )
    return tokens[-1]


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"...{text[-SHOWN:]}"
