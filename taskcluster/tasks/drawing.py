"""Instructions drawn from regular expressions, each from the language of one of them alone.

in:  all regexes of a family
out: as many distinct instructions of a regex as are asked for
"""

import random
from collections.abc import Sequence

from rstr import Rstr

from taskcluster.tasks.language import Automaton, parse

DRAWS_PER_INSTRUCTION = 200  # before a language is called too small


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
        draw, drawn, alone = Strings(regex, self._rng).draw, dict[str, None](), {self._number[regex]}
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


class Strings(Rstr):
    """Strings of a regex, which is parsed only once: rstr's own `xeger` parses it for every string."""

    def __init__(self, regex: str, rng: random.Random) -> None:
        super().__init__(rng)
        self._parsed = parse(regex)

    def draw(self) -> str:
        string: str = self._build_string(self._parsed)
        self._cache.clear()  # what groups matched
        return string
