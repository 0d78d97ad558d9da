"""The strings of bounded regular expressions: drawn at random, and listed.

in:  regexes made of literals, classes, groups, alternations, `?` and `{m,n}`
out: distinct strings of one regex that no other regex of the family matches

`Drawing` and `strings` walk the tree of Python's own parser, so they give the strings that `re.fullmatch` accepts.
"""

import random
import re

# Private: Python has no public parser of its regexes. tests/tasks/test_language.py compares what is drawn and listed by
# this tree with re.fullmatch, and fails where the tree changes.
import re._parser as sre  # type: ignore[import-not-found]
from collections.abc import Sequence
from typing import Any

from rstr import Rstr

MAX_SYMBOLS = 2_000  # in one regex once its repetitions are written out
DRAWS_PER_INSTRUCTION = 200  # before the strings that draws seldom give are listed, or a language is called too small
FEW_DRAWS = 2  # an instruction, before a language is checked for being too small


def parse(regex: str) -> Any:
    """The parts of a regex, (operation, value) each. Raises ValueError for one that cannot be used."""
    try:
        parts = sre.parse(regex)
        if parts.state.flags != re.UNICODE or _size(parts) > MAX_SYMBOLS:
            raise ValueError(f"leave flags out, and write at most {MAX_SYMBOLS} symbols, repetitions included")
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"regex {regex!r} cannot be used ({error}); correct it") from None
    return parts


class Drawing(Rstr):
    """rstr's draws, from a regex that is parsed once, with repetitions up to the regex's own bound (rstr stops at 100).

    Each alternative, symbol and number of repetitions is equally likely. Private: `_build_string`, `_cache`,
    `_handle_repeat` and `_random`, as rstr's public `xeger` parses a regex for every string.
    """

    def draw(self, parts: Any) -> str:
        """A random string of a parsed regex."""
        string: str = self._build_string(parts)
        self._cache.clear()  # what groups matched
        return string

    def _handle_repeat(self, start_range: int, end_range: int, value: Any) -> str:
        times = self._random.randint(start_range, end_range)
        return "".join(self._build_string(value) for _ in range(times))


def strings(parts: Any, most: int) -> set[str]:
    """All strings of a parsed regex, or at least `most` of them where it has more."""
    language = {""}
    for operation, value in parts:
        if operation is sre.LITERAL:
            following = {chr(value)}
        elif operation is sre.IN:
            following = set(_symbols(value))
        elif operation is sre.SUBPATTERN:
            following = strings(value[-1], most)
        elif operation is sre.BRANCH:
            following = set().union(*(strings(branch, most) for branch in value[1]))
        else:
            fewest, highest, repeated = value
            following = _repeated(strings(repeated, most), fewest, highest, most)
        language = _joined(language, following, most)
    return language


def _joined(beginnings: set[str], endings: set[str], most: int) -> set[str]:
    joined = set[str]()
    for beginning in beginnings:
        joined.update(beginning + ending for ending in endings)
        if len(joined) >= most:
            break
    return joined


def _repeated(once: set[str], fewest: int, highest: int, most: int) -> set[str]:
    power, language = {""}, set[str]()
    for times in range(highest + 1):
        if times >= fewest:
            language |= power
        if len(language) >= most:
            break
        power = _joined(power, once, most)
    return language


def _symbols(members: Any) -> list[str]:
    """The symbols of a class such as [ac-f]."""
    symbols = []
    for operation, value in members:
        first, last = value if operation is sre.RANGE else (value, value)
        symbols += [chr(code) for code in range(first, last + 1)]
    return symbols


def _size(parts: Any) -> int:
    """The number of symbols once repetitions are written out. Raises ValueError for what cannot be drawn."""
    size = 0
    for operation, value in parts:
        if operation is sre.LITERAL:
            size += 1
        elif operation is sre.IN and all(kind in (sre.LITERAL, sre.RANGE) for kind, _ in value):
            size += len(_symbols(value))
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
        self._rng, self._drawing, self._remedy = rng, Drawing(rng), remedy
        self._parsed = {regex: parse(regex) for regex in regexes}
        self._matches = {regex: re.compile(regex).fullmatch for regex in regexes}

    def instructions(self, regexes: Sequence[str], count: int) -> tuple[tuple[str, ...], ...]:
        """`count` strings in all, a group for each of `regexes`, outside the language of every other regex.

        Raises ValueError, naming the regex, for one whose language is too small.
        """
        shares = [count // len(regexes) + (k < count % len(regexes)) for k in range(len(regexes))]
        return tuple(tuple(self._draw(regex, n)) for regex, n in zip(regexes, shares, strict=True))

    def _draw(self, regex: str, n: int) -> list[str]:
        """`n` strings as they are drawn; where draws do not suffice, the missing ones from the whole language."""
        others = [matches for other, matches in self._matches.items() if other != regex]
        parts, drawn, listed = self._parsed[regex], dict[str, None](), list[str]()
        for attempt in range(DRAWS_PER_INSTRUCTION * n):
            string = self._drawing.draw(parts)
            if string and string not in drawn and not any(matches(string) for matches in others):
                drawn[string] = None
                if len(drawn) == n:
                    return list(drawn)
            if attempt == FEW_DRAWS * n:
                listed = self._listed(regex, n)
        undrawn = [string for string in listed if string not in drawn]
        if not undrawn:
            raise self._too_small(regex, len(drawn), n)
        return [*drawn, *self._rng.sample(undrawn, n - len(drawn))]

    def _listed(self, regex: str, n: int) -> list[str]:
        """All strings that this regex alone matches, ordered from their last symbol; none where they are too many.

        Raises ValueError where they are fewer than `n`.
        """
        most = DRAWS_PER_INSTRUCTION * n
        language = strings(self._parsed[regex], most + 1) - {""}
        if len(language) >= most:
            return []
        others = [matches for other, matches in self._matches.items() if other != regex]
        alone = [string for string in language if not any(matches(string) for matches in others)]
        if len(alone) < n:
            raise self._too_small(regex, len(alone), n)
        return sorted(alone, key=lambda string: string[::-1])

    def _too_small(self, regex: str, count: int, n: int) -> ValueError:
        return ValueError(
            f"regex {regex!r} gives only {count} of {n} instructions that no other regex matches too; {self._remedy}"
        )
