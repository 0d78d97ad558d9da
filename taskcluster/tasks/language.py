"""The languages of bounded regular expressions, exactly.

in:  patterns made of literals, classes, alternations, groups and bounded repetition
out: which patterns' whole languages hold a string, how many strings a language has, its longest string

Patterns become one position automaton (Glushkov, 1961): a position is a literal or class of a pattern, and a state is
the set of positions that a string can end at. A string is tested against all patterns at once, and no pattern makes it
backtrack. A string's first symbols leave many patterns possible, and the states that these lead to, large and few, are
remembered. The small ones that follow are worked out each time, so memory does not grow with the strings that are
tested. The libraries interegular and greenery give the same answers with a machine for each pattern, and take many
times as long (benchmarks/language.py); they read dialects that differ from Python's, and do not return for a pattern of
a million symbols.
"""

import re
import re._parser as sre  # type: ignore[import-not-found]  # Python's own
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

MAX_POSITIONS = 2_000  # symbols in one pattern once its repetitions are written out
MAX_STATES = 200_000  # sets of positions reached while a single pattern is counted
FEW = 32  # positions up to which a step from a state is worked out each time
START = 0  # the position before the first symbol

State = frozenset[int]


class Automaton:
    """All patterns at once.

    Raises ValueError, naming the pattern, for one that is invalid, unbounded, too large, or made of anything other than
    the constructs above.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._symbols: list[frozenset[str]] = [frozenset()]  # position -> what it may be
        self._follow: list[set[int]] = [set()]  # position -> positions that may come next
        self._ends: dict[int, int] = {}  # position -> the pattern that may end there
        self.max_lengths: list[int] = []
        for index, pattern in enumerate(patterns):
            self._size, self._pattern = 0, pattern
            _, first, last, length = self._sequence(parse(pattern))
            self._link({START}, first)
            self._ends.update(dict.fromkeys(last, index))
            self.max_lengths.append(length)
        self._next = [self._by_symbol(after) for after in self._follow]  # position -> symbol -> positions
        self._known: dict[str, tuple[int, ...]] = {}  # the beginning of a string -> the positions that it can end at

    def owners(self, string: str) -> set[int]:
        """Indices of the patterns that match the whole string."""
        at: tuple[int, ...] = (START,)
        for k, symbol in enumerate(string, start=1):
            if k > 1 and len(at) <= FEW:
                at = self._step(at, symbol)
            else:
                if (beginning := string[:k]) not in self._known:
                    self._known[beginning] = self._step(at, symbol)
                at = self._known[beginning]
        return {self._ends[p] for p in at if p in self._ends}

    def count(self) -> int:
        """Number of distinct non-empty strings in the union of all languages."""
        reached = {start := frozenset({START})}

        @cache
        def strings_from(state: State) -> int:
            total = 0
            for target, symbols in self._targets(state).items():
                reached.add(target)
                if len(reached) > MAX_STATES:
                    raise ValueError(f"regex {self._pattern!r} is too ambiguous to count; write it with fewer overlaps")
                total += symbols * (any(p in self._ends for p in target) + strings_from(target))
            return total

        return strings_from(start)

    def _step(self, at: tuple[int, ...], symbol: str) -> tuple[int, ...]:
        return tuple({q for p in at for q in self._next[p].get(symbol, ())})

    def _by_symbol(self, positions: Iterable[int]) -> dict[str, tuple[int, ...]]:
        """The positions that hold each symbol."""
        found = defaultdict[str, list[int]](list)
        for position in positions:
            for symbol in self._symbols[position]:
                found[symbol].append(position)
        return {symbol: tuple(of_symbol) for symbol, of_symbol in found.items()}

    def _targets(self, state: State) -> Counter[State]:
        """The states that follow, each with the number of symbols that lead to it."""
        after = {q for p in state for q in self._follow[p]}
        return Counter(map(frozenset, self._by_symbol(after).values()))

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
        self._size += len(symbols)
        if self._size > MAX_POSITIONS:
            self._refuse_size()
        position = {len(self._symbols)}
        self._symbols.append(frozenset(symbols))
        self._follow.append(set())
        return False, position, position, 1

    def _link(self, sources: set[int], targets: set[int]) -> None:
        for source in sources:
            self._follow[source] |= targets

    def _refuse_size(self) -> None:
        self._refuse(f"has more than {MAX_POSITIONS} symbols once repetitions are written out; shorten it")

    def _refuse(self, reason: str) -> Any:
        raise ValueError(f"regex {self._pattern!r} {reason}")


def parse(pattern: str) -> Any:
    """The parts of a pattern, (op, value) each. Raises ValueError, naming the pattern, for one that is invalid."""
    try:
        items = sre.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"regex {pattern!r} is not valid ({error}); correct it") from None
    if items.state.flags != re.UNICODE:
        raise ValueError(f"regex {pattern!r} sets a flag; leave the flags out")
    if not pattern:
        raise ValueError("regex '' is empty; give it at least one symbol")
    return items
