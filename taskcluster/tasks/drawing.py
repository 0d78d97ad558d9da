"""Instructions drawn from regular expressions, each from the language of one of them alone.

in:  all regexes of a family
out: as many distinct instructions of a regex as are asked for
"""

import random
from collections.abc import Sequence
from itertools import islice
from typing import Any

from rstr import Rstr

from taskcluster.tasks.language import Automaton, has_only_empty, parse

DRAWS_PER_INSTRUCTION = 200  # before the strings that draws seldom give are listed, or a language is called too small
FEW_DRAWS = 2  # an instruction, before a language is checked for being too small


class Drawer:
    """Draws from the regexes of a family; each is one of `regexes`, which are distinct.

    remedy: what the author of the configuration can do about a language that is too small.
    Raises ValueError, naming the regex, for one that is invalid.
    """

    def __init__(self, regexes: Sequence[str], rng: random.Random, remedy: str) -> None:
        self._automaton, self._rng, self._remedy = Automaton(regexes), rng, remedy
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
        """`n` strings as rstr draws them; if draws do not suffice, those missing are chosen from the whole language."""
        draw, drawn, alone = Strings(regex, self._rng).draw, dict[str, None](), {self._number[regex]}
        for attempt in range(DRAWS_PER_INSTRUCTION * n):
            string = draw()
            if string and string not in drawn and self._automaton.owners(string) == alone:
                drawn[string] = None
                if len(drawn) == n:
                    return list(drawn)
            if attempt == FEW_DRAWS * n:
                self._usable(regex, n)
        undrawn = [string for string in self._usable(regex, n) if string not in drawn]
        if not undrawn:
            raise self._too_small(regex, len(drawn), n, f"{DRAWS_PER_INSTRUCTION * n:,} were drawn")
        return [*drawn, *self._rng.sample(undrawn, n - len(drawn))]

    def _usable(self, regex: str, n: int) -> list[str]:
        """All strings that this regex alone matches; none where the language is too large to list.

        Raises ValueError where they are fewer than `n`.
        """
        most = DRAWS_PER_INSTRUCTION * n
        language = list(islice(Automaton([regex]).strings(), most))
        if len(language) == most:
            return []
        usable = [string for string in language if self.owners(string) == [regex]]
        if len(usable) < n:
            size = f"its language has {len(language)} string{'s' * (len(language) != 1)}"
            raise self._too_small(regex, len(usable), n, size)
        return usable

    def _too_small(self, regex: str, found: int, n: int, why: str) -> ValueError:
        return ValueError(
            f"regex {regex!r} gives only {found} of {n} instructions that no other regex matches too ({why}); "
            + self._remedy
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

    def _handle_repeat(self, start_range: int, end_range: int, value: Any) -> str:
        """Up to the regex's own bound, where rstr stops at 100."""
        times = self._random.randint(start_range, end_range)
        return "" if has_only_empty(value) else "".join(self._build_string(value) for _ in range(times))
