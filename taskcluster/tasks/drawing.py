"""Instructions drawn from regular expressions, each from the language of one of them alone.

in:  all regexes of a family
out: as many distinct instructions of a regex as are asked for
"""

import random
from collections.abc import Sequence

from rstr import Rstr

from taskcluster.tasks.language import Automaton

DRAWS_PER_INSTRUCTION = 200  # before a language is called too small


class Drawer:
    """Draws from the regexes of a family; each is one of `regexes`, which are distinct.

    Raises ValueError, naming the regex, for one that is invalid.
    """

    def __init__(self, regexes: Sequence[str], rng: random.Random) -> None:
        self._automaton, self._rng = Automaton(regexes), rng
        self._regexes = list(regexes)

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
        draw, drawn = Rstr(self._rng).xeger, dict[str, None]()
        for _ in range(DRAWS_PER_INSTRUCTION * n):
            string = draw(regex)
            if string and string not in drawn and self.owners(string) == [regex]:
                drawn[string] = None
                if len(drawn) == n:
                    return list(drawn)
        raise ValueError(
            f"regex {regex!r} gave only {len(drawn)} of {n} instructions that no other regex matches too (its language "
            f"has {Automaton([regex]).count()} strings); widen it, or lower instructions_per_task"
        )
