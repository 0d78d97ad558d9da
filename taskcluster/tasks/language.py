"""The languages of bounded regular expressions, exactly.

in:  patterns made of literals, classes, alternations, groups and bounded repetition
out: which patterns' whole languages hold a string; the strings of a language, their number and the longest length

Patterns become one position automaton (Glushkov, 1961): a position is a literal or class of a pattern, and a state is
the set of positions that a string can end at. A string is tested against all patterns at once, from its last symbol to
its first, and no pattern makes it backtrack. Its last symbols leave many patterns possible, and the states that these
lead to, large and few, are remembered. The small ones before them are worked out each time, so memory does not grow
with the strings that are tested. The libraries interegular and greenery give the same answers with a machine for each
pattern, and take many times as long (benchmarks/language.py); they read dialects that differ from Python's, and do not
return for a pattern of a million symbols.
"""

import re
import re._parser as sre  # type: ignore[import-not-found]  # Python's own
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

MAX_DEPTH = 50  # groups and repetitions inside each other
MAX_POSITIONS = 2_000  # symbols in one pattern once its repetitions are written out
MAX_REACHED = 3_000_000  # positions in all states that are reached while strings are counted
FEW = 32  # positions up to which a step from a state is worked out each time
START, END = 0, -1  # the positions before the first symbol and after the last

State = frozenset[int]
Part = tuple[bool, set[int], set[int], int]
EMPTY: Part = (True, set(), set(), 0)
UNSUPPORTED = {
    sre.ANY: "a dot, which matches nearly every symbol",
    sre.NOT_LITERAL: "a class that is negated",
    sre.SUBPATTERN: "a group that sets a flag",
    sre.AT: "an anchor or a boundary such as ^, $ or \\b, which is not needed: a whole string has to match",
    sre.GROUPREF: "a backreference",
    sre.GROUPREF_EXISTS: "a conditional group",
    sre.ASSERT: "a lookaround",
    sre.ASSERT_NOT: "a lookaround",
    sre.FAILURE: "a lookaround",
    sre.POSSESSIVE_REPEAT: "a possessive repetition",
    sre.ATOMIC_GROUP: "an atomic group",
}


class Automaton:
    """All patterns at once.

    Raises ValueError, naming the pattern, for one that is invalid, unbounded, too large, or made of anything other than
    the constructs above.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._symbols: list[frozenset[str]] = [frozenset()]  # position -> what it may be
        self._follow: list[set[int]] = [set()]  # position -> positions that may come next
        self._starts: dict[int, int] = {}  # position -> the pattern that may start there
        self._ends: set[int] = set()  # positions where a pattern may end
        self.max_lengths: list[int] = []
        for index, pattern in enumerate(patterns):
            self._size, self._depth, self._pattern = 0, 0, pattern
            _, first, last, length = self._sequence(parse(pattern))
            self._link({START}, first)
            self._starts.update(dict.fromkeys(first, index))
            self._ends |= last
            self.max_lengths.append(length)
        before: list[set[int]] = [set() for _ in self._symbols]
        for position, after in enumerate(self._follow):
            for following in after:
                before[following].add(position)
        self._before = [self._by_symbol(positions) for positions in (*before, self._ends)]  # END is the last of them
        self._known: dict[str, tuple[int, ...]] = {}  # the ending of a string -> the positions that it can start at

    def owners(self, string: str) -> set[int]:
        """Indices of the patterns that match the whole string."""
        at: tuple[int, ...] = (END,)
        for k, symbol in enumerate(reversed(string), start=1):
            if k > 1 and len(at) <= FEW:
                at = self._step_back(at, symbol)
            else:
                if (ending := string[-k:]) not in self._known:
                    self._known[ending] = self._step_back(at, symbol)
                at = self._known[ending]
        return {self._starts[p] for p in at if p in self._starts}

    def count(self) -> int:
        """Number of distinct non-empty strings in the union of all languages."""
        waiting: list[Counter[State]] = [Counter() for _ in self._symbols]  # lowest position -> state -> strings so far
        waiting[START][frozenset({START})] = 1
        total = reached = 0
        for level in waiting:  # each step raises the lowest position, so a state is complete when its turn comes
            for state, strings in level.items():
                for target, symbols in self._targets(state).items():
                    reached += len(target) * (target not in waiting[min(target)])
                    waiting[min(target)][target] += strings * symbols
                    total += strings * symbols * any(p in self._ends for p in target)
                if reached > MAX_REACHED:
                    raise ValueError(f"regex {self._pattern!r} is too ambiguous to count; write it with fewer overlaps")
        return total

    def strings(self) -> Iterator[str]:
        """Every non-empty string in the union of all languages, once."""
        stack: list[tuple[str, tuple[int, ...]]] = [("", (END,))]
        while stack:
            string, at = stack.pop()
            if any(p in self._starts for p in at):
                yield string
            symbols = sorted({symbol for p in at for symbol in self._before[p]}, reverse=True)
            stack += [(symbol + string, self._step_back(at, symbol)) for symbol in symbols]

    def _step_back(self, at: tuple[int, ...], symbol: str) -> tuple[int, ...]:
        return tuple({q for p in at for q in self._before[p].get(symbol, ())})

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

    def _sequence(self, items: Any) -> Part:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._refuse(f"nests more than {MAX_DEPTH} groups, alternations and repetitions; write it flatter")
        empty, first, last, length = EMPTY
        for item in items:
            part_empty, part_first, part_last, part_length = self._part(*item)
            self._link(last, part_first)
            first = first | part_first if empty else first
            last = last | part_last if part_empty else part_last
            empty, length = empty and part_empty, length + part_length
        self._depth -= 1
        return empty, first, last, length

    def _part(self, op: Any, value: Any) -> Part:
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
            return self._repeat(*value)
        what = UNSUPPORTED.get(op) or str(op).lower().replace("_", " ")
        return self._refuse(f"uses {what}; use literals, classes such as [a-d], alternations, ? and {{m,n}} alone")

    def _repeat(self, low: int, high: int, items: Any) -> Part:
        """Copies in a chain, of which a string passes the last ones, at least `low`.

        So each copy has one copy before it, and strings of many lengths share states when they are counted.
        """
        if high is sre.MAXREPEAT:
            self._refuse("repeats without an upper bound; write {m,n} instead of * or +")
        if has_only_empty(items):
            return self._sequence(items)
        if high > MAX_POSITIONS:
            self._refuse_size()
        empty, first, last, length = EMPTY
        for copy in range(high):
            empty, copy_first, copy_last, copy_length = self._sequence(items)
            self._link(last, copy_first)
            first = first | copy_first if empty or copy <= high - low else first
            last, length = copy_last, length + copy_length
        return empty or low == 0, first, last, length

    def _members(self, op: Any, value: Any) -> set[str]:
        if op is sre.LITERAL:
            return {chr(value)}
        if op is sre.RANGE:
            return {chr(code) for code in range(value[0], value[1] + 1)}
        return self._refuse("has a class that is negated or a shorthand such as \\d; list its symbols instead")

    def _class(self, symbols: set[str]) -> Part:
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


def has_only_empty(items: Any) -> bool:
    """Whether parts of a pattern match the empty string alone."""
    return bool(items.getwidth()[1] == 0)


def parse(pattern: str) -> Any:
    """The parts of a pattern, (op, value) each. Raises ValueError, naming the pattern, for one that is invalid."""
    try:
        items = sre.parse(pattern)
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"regex {pattern!r} is not valid ({error}); correct it") from None
    if items.state.flags != re.UNICODE:
        raise ValueError(f"regex {pattern!r} sets a flag; leave the flags out")
    if not pattern:
        raise ValueError("regex '' is empty; give it at least one symbol")
    return items
