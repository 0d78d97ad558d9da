"""Instructions drawn from regular expressions, each from the language of one of them alone.

in:  all regexes of a family
out: as many distinct instructions of a regex as are asked for
"""

import random
import re._parser as sre  # type: ignore[import-not-found]  # Python's own
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from taskcluster.tasks.language import Automaton, parse

DRAWS_PER_INSTRUCTION = 200  # before a language is called too small
MOST_REPEATS = 100  # of a part that may be repeated more often


class Drawer:
    """Draws from the regexes of a family; each is one of `regexes`, which are distinct.

    Raises ValueError, naming the regex, for one that is invalid.
    """

    def __init__(self, regexes: Sequence[str], rng: random.Random) -> None:
        self._automaton, self._rng = Automaton(regexes), rng
        self._regexes = list(regexes)
        self._number = {regex: k for k, regex in enumerate(regexes)}

    def owners(self, string: str) -> list[str]:
        """The regexes that match the whole string."""
        return [self._regexes[k] for k in sorted(self._automaton.owners(string))]

    def instructions(self, regexes: Sequence[str], count: int) -> tuple[tuple[str, ...], ...]:
        """`count` strings in all, a group for each of `regexes`, outside the language of every other regex.

        Raises ValueError, naming the regex, for one whose language is too small.
        """
        shares = [count // len(regexes) + (k < count % len(regexes)) for k in range(len(regexes))]
        return tuple(tuple(self._draw(regex, n)) for regex, n in zip(regexes, shares, strict=True))

    def _draw(self, regex: str, n: int) -> list[str]:
        draw, drawn, alone = drawing(regex, self._rng), dict[str, None](), {self._number[regex]}
        for _ in range(DRAWS_PER_INSTRUCTION * n):
            string = draw()
            if string and string not in drawn and self._automaton.owners(string) == alone:
                drawn[string] = None
                if len(drawn) == n:
                    return list(drawn)
        raise ValueError(
            f"regex {regex!r} gave only {len(drawn)} of {n} instructions that no other regex matches too (its language "
            f"has {Automaton([regex]).count()} strings); widen it, or lower instructions_per_task"
        )


def drawing(regex: str, rng: random.Random) -> Callable[[], str]:
    """A function that draws a string from a regex of the kind that `Automaton` takes, which is parsed only once.

    Every class, branch and number of repeats is drawn uniformly, in the order in which the regex has them. The strings
    are those that the library rstr draws with the same generator, so that families stay as they were first published.
    """
    return _sequence(parse(regex), rng)


def _sequence(items: Any, rng: random.Random) -> Callable[[], str]:
    parts = [_part(op, value, rng) for op, value in items]
    return parts[0] if len(parts) == 1 else lambda: "".join([part() for part in parts])


def _part(op: Any, value: Any, rng: random.Random) -> Callable[[], str]:
    if op is sre.LITERAL:
        symbol = chr(value)
        return lambda: symbol
    if op is sre.IN:
        symbols = [*chain.from_iterable(map(_symbols, value))]
        return lambda: rng.choice(symbols)
    if op is sre.BRANCH:
        branches = [_sequence(branch, rng) for branch in value[1]]
        return lambda: rng.choice(branches)()
    if op is sre.SUBPATTERN:
        return _sequence(value[-1], rng)
    low, high, items = value
    part, most = _sequence(items, rng), max(low, min(high, MOST_REPEATS))
    return lambda: "".join([part() for _ in range(rng.randint(low, most))])


def _symbols(item: tuple[Any, Any]) -> list[str]:
    op, value = item
    return [chr(value)] if op is sre.LITERAL else [chr(code) for code in range(value[0], value[1] + 1)]
