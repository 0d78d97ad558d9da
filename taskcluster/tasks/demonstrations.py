"""Demonstrations: a few pairs of a task in front of the query, from which the task has to be inferred.

in:  pairs of inputs that are never queried, and a layout such as "Q: {x}\nA: {y}\n\n"
out: {set of demonstrations: the one instruction that ends with the query}
"""

import math
import random
import re
from collections.abc import Mapping
from string import Formatter

from taskcluster.tasks.family import SLOT
from taskcluster.tasks.paraphrases import Groups


class Layout:
    """How a pair is written: text before, between and after x and y.

    Raises ValueError for a text without x and y, in this order and with a space before y.
    """

    def __init__(self, text: str) -> None:
        try:
            parts = list(Formatter().parse(text))
        except ValueError:
            parts = []
        fixed = [""]
        plain = not any(form or conversion for _, _, form, conversion in parts)
        for literal, name, _, _ in parts:
            fixed[-1] += literal
            fixed += [""] * (name is not None)
        names = [name for _, name, _, _ in parts if name is not None]
        if names != ["x", "y"] or not plain or not fixed[1].endswith(" "):
            raise ValueError(f"layout={text!r} must hold {{x}} and then {{y}}, once each and with a space before {{y}}")
        self._before, self._between, self._after = fixed
        self._written = re.compile("(.*?)".join(map(re.escape, fixed)), re.DOTALL)

    def pair(self, x: str, y: str) -> str:
        return self._before + x + self._between + y + self._after

    def shuffled(self, instruction: str, rng: random.Random) -> str:
        """The same demonstrations and query, with each y at another x where it is another y."""
        demonstrated = instruction.removesuffix(self.query)
        xs, ys = zip(*self._written.findall(demonstrated), strict=True)
        order = rng.sample(range(len(ys)), len(ys))  # a cycle, which leaves no y where it was
        moved = {order[k - 1]: ys[order[k]] for k in range(len(order))}
        return "".join(self.pair(x, moved[k]) for k, x in enumerate(xs)) + self.query

    @property
    def query(self) -> str:
        """A pair without y and the space before it."""
        return self._before + SLOT + self._between[:-1]


def demonstration_sets(
    shown: Mapping[str, str], size: int, count: int, layout: Layout, rng: random.Random, disjoint: bool = False
) -> Groups:
    """`count` different sets, each of `size` different pairs in an order of its own; `disjoint`: no pair is in two.

    Raises ValueError, naming an argument of the families, where there are too few pairs for that.
    """
    if disjoint and size * count > len(shown):
        raise ValueError(
            f"disjoint_demonstrations=True needs {size * count} pairs to show for n_sets={count} of {size}, and there "
            f"are {len(shown)}; raise n_pool to {size * count}, or lower n_sets or n_demonstrations"
        )
    if size > len(shown):
        pairs_shown = f"{len(shown)} pair{'s' * (len(shown) != 1)}"
        raise ValueError(
            f"n_demonstrations={size} exceeds the {pairs_shown} to show; lower it to {len(shown)}, or raise n_pool"
        )
    if count > (possible := math.perm(len(shown), size)):
        raise ValueError(
            f"n_sets={count} exceeds the {possible} sets of n_demonstrations={size} from n_pool={len(shown)} pairs; "
            f"lower it to {possible}, or raise n_pool"
        )
    pairs, sets = list(shown.items()), dict[str, None]()
    if disjoint:
        rng.shuffle(pairs)
    while len(sets) < count:
        among = pairs[len(sets) * size : (len(sets) + 1) * size] if disjoint else pairs
        sets["".join(layout.pair(x, y) for x, y in rng.sample(among, size))] = None
    return {demonstrated: (demonstrated + layout.query,) for demonstrated in sets}
