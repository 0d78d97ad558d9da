"""Where the tokens of a pass are in their sequences: what masks of attention are made from.

in:  the tokens that a network reads, Q, and those that it can look at, K, of which the last Q are the same
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
