"""The languages of bounded regular expressions, exactly.

in:  patterns made of literals, classes, alternations, groups and bounded repetition
out: which patterns' whole languages hold a string, how many strings a language has, its longest string

Patterns become one position automaton (Glushkov, 1961): a state is a set of pattern positions, and sets are numbered as
strings first reach them. Matching takes one table look-up a symbol whatever the pattern, so no pattern makes it
backtrack, and a string is tested against all patterns at once. The libraries interegular and greenery give the same
answers with a machine for each pattern, 6 to 190 times slower (benchmarks/language.py); they read dialects that differ
from Python's, from whose parser rstr draws the strings, and do not return for a pattern of a million symbols.
"""

import re
import re._parser as sre  # type: ignore[import-not-found]  # the parser that rstr samples from
from collections.abc import Sequence
from functools import cache
from typing import Any

MAX_POSITIONS = 2_000  # symbols in one pattern once its repetitions are written out
MAX_STATES = 200_000  # sets of positions reached while a single pattern is counted
START = 0  # the position before the first symbol


class Automaton:
    """All patterns at once.

    Raises ValueError, naming the pattern, for one that is invalid, unbounded, too large, or made of anything other than
    the constructs above.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._follow: list[dict[str, set[int]]] = [{}]  # position -> symbol -> positions that may come next
        self._symbol: list[str] = [""]
        self._ends: dict[int, int] = {}  # position -> the pattern that may end there
        self.max_lengths: list[int] = []
        for index, pattern in enumerate(patterns):
            self._offset, self._pattern = len(self._symbol), pattern
            _, first, last, length = self._sequence(_parse(pattern))
            self._link({START}, first)
            self._ends.update(dict.fromkeys(last, index))
            self.max_lengths.append(length)
        self._states: list[frozenset[int]] = [frozenset({START})]
        self._number = {self._states[0]: 0}
        self._table: list[dict[str, int]] = [{}]

    def owners(self, string: str) -> set[int]:
        """Indices of the patterns that match the whole string."""
        state = 0
        for symbol in string:
            state = self._step(state, symbol)
        return {self._ends[p] for p in self._states[state] if p in self._ends}

    def count(self) -> int:
        """Number of distinct non-empty strings in the union of all languages."""

        @cache
        def strings_from(state: int) -> int:
            total = 0
            for symbol in {s for p in self._states[state] for s in self._follow[p]}:
                target = self._step(state, symbol)
                if len(self._states) > MAX_STATES:
                    raise ValueError(f"regex {self._pattern!r} is too ambiguous to count; write it with fewer overlaps")
                total += any(p in self._ends for p in self._states[target]) + strings_from(target)
            return total

        return strings_from(0)

    def _step(self, state: int, symbol: str) -> int:
        target = self._table[state].get(symbol)
        if target is None:
            positions = frozenset().union(*(self._follow[p].get(symbol, ()) for p in self._states[state]))
            target = self._number.setdefault(positions, len(self._states))
            if target == len(self._states):
                self._states.append(positions)
                self._table.append({})
            self._table[state][symbol] = target
        return target

    # A part of a pattern is (may be empty, first positions, last positions, longest length).

    def _sequence(self, items: Any) -> tuple[bool, set[int], set[int], int]:
        empty, first, last, length = True, set[int](), set[int](), 0
        for item in items:
            part_empty, part_first, part_last, part_length = self._part(*item)
            self._link(last, part_first)
            first = first | part_first if empty else first
            last = last | part_last if part_empty else part_last
            empty, length = empty and part_empty, length + part_length
        return empty, first, last, length

    def _part(self, op: Any, value: Any) -> tuple[bool, set[int], set[int], int]:
        if op is sre.LITERAL:
            return self._class({chr(value)})
        if op is sre.IN:
            return self._class(set().union(*(self._members(*item) for item in value)))
        if op is sre.SUBPATTERN and not any(value[1:3]):  # no flags such as (?i:...)
            return self._sequence(value[-1])
        if op is sre.BRANCH:
            empty, first, last, length = zip(*(self._sequence(branch) for branch in value[1]), strict=True)
            return any(empty), set().union(*first), set().union(*last), max(length)
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            low, high, items = value
            if high is sre.MAXREPEAT:
                self._refuse("repeats without an upper bound; write {m,n} instead of * or +")
            if high > MAX_POSITIONS:
                self._refuse_size()
            once = (sre.SUBPATTERN, (None, 0, 0, items))
            return self._sequence([once] * low + [(sre.BRANCH, (None, [[once], []]))] * (high - low))
        return self._refuse(
            f"uses {str(op).lower()}, which has no finite set of symbols here; "
            "use literals, classes such as [a-d], alternations, ? and {m,n}"
        )

    def _members(self, op: Any, value: Any) -> set[str]:
        if op is sre.LITERAL:
            return {chr(value)}
        if op is sre.RANGE:
            return {chr(code) for code in range(value[0], value[1] + 1)}
        return self._refuse("has a class that is negated or a shorthand such as \\d; list its symbols instead")

    def _class(self, symbols: set[str]) -> tuple[bool, set[int], set[int], int]:
        positions = set(range(len(self._symbol), len(self._symbol) + len(symbols)))
        if max(positions) - self._offset >= MAX_POSITIONS:
            self._refuse_size()
        self._symbol += sorted(symbols)
        self._follow += [{} for _ in symbols]
        return False, positions, positions, 1

    def _link(self, sources: set[int], targets: set[int]) -> None:
        for source in sources:
            for target in targets:
                self._follow[source].setdefault(self._symbol[target], set()).add(target)

    def _refuse_size(self) -> None:
        self._refuse(f"has more than {MAX_POSITIONS} symbols once repetitions are written out; shorten it")

    def _refuse(self, reason: str) -> Any:
        raise ValueError(f"regex {self._pattern!r} {reason}")


def _parse(pattern: str) -> Any:
    try:
        items = sre.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"regex {pattern!r} is not valid ({error}); correct it") from None
    if items.state.flags != re.UNICODE:
        raise ValueError(f"regex {pattern!r} sets a flag; leave the flags out")
    if not pattern:
        raise ValueError("regex '' is empty; give it at least one symbol")
    return items
