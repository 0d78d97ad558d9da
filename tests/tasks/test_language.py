"""Languages of regular expressions, against Python's own matcher, full enumeration, and the library rstr."""

import random
import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rstr import Rstr

from taskcluster.tasks.drawing import Strings
from taskcluster.tasks.language import Automaton

ATOMS = st.sampled_from(["a", "b", "[ab]", "c?", "(?:a|bc)", "[bc]{1,2}", "(?:ab?){0,2}", "(?:a|ab)(?:c|bc)"])
PATTERNS = st.lists(ATOMS, min_size=1, max_size=4).map("".join)


def language(pattern: str, longest: int) -> set[str]:
    strings = ("".join(s) for n in range(1, longest + 1) for s in product("abc", repeat=n))
    return {string for string in strings if re.fullmatch(pattern, string)}


@given(PATTERNS)
def test_count_and_longest_are_those_of_the_enumerated_language(pattern: str) -> None:
    automaton = Automaton([pattern])
    if automaton.max_lengths[0] <= 7:
        enumerated = language(pattern, 8)
        assert automaton.count() == len(enumerated)
        assert automaton.max_lengths[0] == max(map(len, enumerated))


@given(st.lists(PATTERNS, min_size=1, max_size=4), st.text("abcd", max_size=8))
def test_owners_are_the_patterns_that_match_the_whole_string(patterns: list[str], string: str) -> None:
    matching = {k for k, pattern in enumerate(patterns) if string and re.fullmatch(pattern, string)}
    assert Automaton(patterns).owners(string) == matching


@given(st.lists(PATTERNS, min_size=40, max_size=40), st.text("abc", max_size=8))
def test_owners_among_many_patterns_are_the_same_when_asked_again(patterns: list[str], string: str) -> None:
    matching = {k for k, pattern in enumerate(patterns) if string and re.fullmatch(pattern, string)}
    automaton = Automaton(patterns)
    assert [automaton.owners(string) for _ in range(2)] == [matching] * 2


@given(PATTERNS, st.integers(0, 100))
def test_strings_are_drawn_as_rstr_draws_them(pattern: str, seed: int) -> None:
    strings, peer = Strings(pattern, random.Random(seed)), Rstr(random.Random(seed))
    drawn = [strings.draw() for _ in range(20)]
    assert drawn == [peer.xeger(pattern) for _ in range(20)]
    assert all(re.fullmatch(pattern, string) for string in drawn)


def test_patterns_that_make_a_backtracking_matcher_hang_take_no_time() -> None:
    automaton = Automaton(["(?:a?){25}a{25}", "(?:a|aa){1,40}b"])
    assert automaton.owners("a" * 30) == {0}
    assert automaton.owners("a" * 60 + "c") == set()


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "is empty"),
        ("[ab", "is not valid"),
        ("*a", "is not valid"),
        ("a+", "without an upper bound"),
        ("(a+)+b", "without an upper bound"),
        ("((a{100}){100}){100}", "more than 2000 symbols"),
        ("(?:a?){1000000000}", "more than 2000 symbols"),
        ("[^a]", "literals, classes"),
        (r"\d", "list its symbols"),
        ("^a$", "literals, classes"),
        ("(?i)a", "sets a flag"),
        ("(?i:a)b", "literals, classes"),
        (r"(a)\1", "literals, classes"),
    ],
)
def test_patterns_outside_the_supported_kind_are_refused_by_name(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)) as refused:
        Automaton([pattern])
    assert repr(pattern) in str(refused.value)


def test_a_language_too_tangled_to_count_is_refused() -> None:
    with pytest.raises(ValueError, match="too ambiguous"):
        Automaton(["(?:a|b){0,20}a(?:a|b){20}"]).count()
