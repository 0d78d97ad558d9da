"""The position of each token of a forward pass in its sequence, from which attention masks are made.

in:  Q query tokens, and K key tokens that they can attend to, of which the last Q are the same
out: TokenPlaces
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class TokenPlaces(NamedTuple):
    """query (B, Q), key (B, K): the place of each token in its sequence. end (B, Q): the place of instruction_end in
    the sequence of each query."""

    query: Tensor
    key: Tensor
    end: Tensor


Hidden = Callable[[TokenPlaces], Tensor]  # which keys are hidden from which queries, bool (B, Q, K)
