"""Draw random strings of bounded regular expressions.

in:  regexes made of literals, classes, groups, alternations, `?` and `{m,n}`
out: distinct strings of one regex that no other regex of the family matches

rstr draws a string: each alternative, symbol and number of repetitions is equally likely.
"""

import random
import re

# Private: Python has no public parser of its regexes. tests/tasks/test_language.py fails where its tree changes.
import re._parser as sre  # type: ignore[import-not-found]
from collections.abc import Sequence
from typing import Any

from rstr import Rstr

MAX_SYMBOLS = 2_000  # in one regex once its repetitions are written out
DRAWS_PER_INSTRUCTION = 200  # draws before a language counts as too small


class Drawing(Rstr):
    """rstr, with repetitions up to the regex's own bound, from a regex that is parsed once. Private: `_handle_repeat`
    and `_build_string`, as rstr stops at 100 repetitions and parses for each string."""

    def draw(self, parts: Any) -> str:
        return self._build_string(parts)

    def _handle_repeat(self, start_range: int, end_range: int, value: Any) -> str:
        return "".join(self._build_string(value) for _ in range(self._random.randint(start_range, end_range)))


def parsed(regex: str) -> Any:
    """The parts of a regex. Raises ValueError for one that cannot be used."""
    try:
        parts = sre.parse(regex)
        if parts.state.flags != re.UNICODE or _size(parts) > MAX_SYMBOLS:
            raise ValueError(f"leave flags out, and write at most {MAX_SYMBOLS} symbols, repetitions included")
        return parts
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"regex {regex!r} cannot be used ({error}); correct it") from None


def _size(parts: Any) -> int:
    """The number of symbols once repetitions are written out. Raises ValueError for what cannot be drawn."""
    size = 0
    for operation, value in parts:
        if operation is sre.LITERAL:
            size += 1
        elif operation is sre.IN and all(kind in (sre.LITERAL, sre.RANGE) for kind, _ in value):
            size += sum(member[1] - member[0] + 1 if kind is sre.RANGE else 1 for kind, member in value)
        elif operation is sre.SUBPATTERN and not any(value[1:3]):  # no flags such as (?i:...)
            size += max(_size(value[-1]), 1)
        elif operation is sre.BRANCH:
            size += sum(map(_size, value[1]))
        elif operation in (sre.MAX_REPEAT, sre.MIN_REPEAT) and value[1] is not sre.MAXREPEAT:
            size += value[1] * max(_size(value[2]), 1)
        else:
            raise ValueError(
                "use literals, classes such as [a-d], groups, alternations, ? and {m,n}, not + * . ^ $ \\d"
            )
    return size


class Drawer:
    """Draws instructions from the regexes of a family, which are distinct.

    remedy: what the author of the configuration can do about a language that is too small.
    Raises ValueError, naming the regex, for one that cannot be used.
    """

    def __init__(self, regexes: Sequence[str], rng: random.Random, remedy: str) -> None:
        self._rstr, self._remedy = Drawing(rng), remedy
        self._parts = {regex: parsed(regex) for regex in regexes}
        self._matches = {regex: re.compile(regex).fullmatch for regex in regexes}

    def instructions(self, regexes: Sequence[str], count: int) -> tuple[tuple[str, ...], ...]:
        """`count` strings in all, a group for each of `regexes`, outside the language of every other regex.

        Raises ValueError, naming the regex, for one whose language is too small, and for fewer strings than regexes.
        """
        if count < len(regexes):
            raise ValueError(f"instructions_per_task={count} is too few for a task of {len(regexes)} regexes; raise it")
        shares = [count // len(regexes) + (k < count % len(regexes)) for k in range(len(regexes))]
        return tuple(self._draw(regex, n) for regex, n in zip(regexes, shares, strict=True))

    def _draw(self, regex: str, n: int) -> tuple[str, ...]:
        others = [matches for other, matches in self._matches.items() if other != regex]
        drawn: dict[str, None] = {}
        for _ in range(DRAWS_PER_INSTRUCTION * n):
            string = self._rstr.draw(self._parts[regex])
            if string and string not in drawn and not any(matches(string) for matches in others):
                drawn[string] = None
                if len(drawn) == n:
                    return tuple(drawn)
        raise ValueError(
            f"regex {regex!r} gives only {len(drawn)} of {n} instructions that no other regex matches too; "
            f"{self._remedy}"
        )
