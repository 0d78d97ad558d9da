"""Languages of regular expressions, against Python's own matcher, full enumeration, and the library rstr."""

import random
import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rstr import Rstr

from taskcluster.tasks.drawing import Strings
from taskcluster.tasks.language import Automaton

# Every way to write a repeat: optional, bounded, exact, from zero, lazy, none, nested, in groups, of nothing.
REPEATS = st.recursive(
    st.sampled_from(["a", "b", "[ab]", "(?:a|bc)", "(?:|c)", r"\x61", "(?:)"]),
    lambda parts: st.one_of(
        st.builds("(?:{}){}".format, parts, st.sampled_from(["?", "{1,2}", "{2}", "{,2}", "{0}", "{0,1}?", "??"])),
        st.builds("({}{})".format, parts, parts),
        st.builds("(?:{}|{})".format, parts, parts),
    ),
    max_leaves=4,
)
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


@given(REPEATS)
def test_a_language_is_counted_listed_and_drawn_alike_however_it_repeats(pattern: str) -> None:
    automaton = Automaton([pattern])
    listed = list(automaton.strings())
    assert len(listed) == len(set(listed)) == automaton.count()
    assert automaton.max_lengths[0] == max(map(len, listed), default=0)
    if automaton.max_lengths[0] <= 7:
        assert set(listed) == language(pattern, 8)
    strings = Strings(pattern, random.Random(0))
    drawn = {strings.draw() for _ in range(20)} - {""}
    assert drawn <= set(listed)
    assert all(automaton.owners(string) == {0} for string in listed)
    if len(listed) <= 4:
        assert {strings.draw() for _ in range(2_000)} - {""} == set(listed)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 300), st.integers(0, 60), st.sampled_from(["", "?"]), st.integers(0, 5))
def test_repeats_of_any_size_are_drawn_up_to_their_bounds(low: int, more: int, lazy: str, seed: int) -> None:
    pattern = f"(?:[pq]{{{low},{low + more}}}{lazy})"
    automaton, strings = Automaton([pattern]), Strings(pattern, random.Random(seed))
    assert automaton.count() == sum(2**n for n in range(max(low, 1), low + more + 1))
    drawn = [strings.draw() for _ in range(20 * (more + 1) if more < 6 else 60)]
    assert all(re.fullmatch(pattern, string) for string in drawn)
    assert all(automaton.owners(string) == {0} for string in drawn if string)
    assert max(map(len, drawn)) >= low + more // 2
    if more < 6:
        assert {len(string) for string in drawn} == {*range(low, low + more + 1)}


@pytest.mark.parametrize(
    ("pattern", "lengths"),
    [
        ("[pq]{1,200}", range(1, 201)),
        ("[pq]{50,150}", range(50, 151)),
        ("a[pq]{120}", [121]),
        ("(?:a{1,3}){120}b{101}?", range(221, 462)),
        ("a{,130}", range(131)),
        ("(?:a{150}|b{160})", [150, 160]),
        ("a{0}[pq]{1000}", [1000]),
    ],
)
def test_repeats_above_a_hundred_are_drawn_in_full(pattern: str, lengths: list[int]) -> None:
    strings = Strings(pattern, random.Random(0))
    drawn = {len(strings.draw()) for _ in range(400 if len(lengths) > 2 else 20)}
    assert drawn <= {*lengths}
    assert max(drawn) > 100
    assert Automaton([pattern]).max_lengths == [max(lengths)]


@pytest.mark.parametrize(
    ("pattern", "count"),
    [("a{1500}", 1), ("(?:a?){1000}", 1000), ("[pq]{1000}", 2**1000), ("(((){2000}){2000}){2000}", 0), ("a{0}", 0)],
)
def test_long_strings_and_repeats_of_nothing_are_counted_at_once(pattern: str, count: int) -> None:
    assert Automaton([pattern]).count() == count
    assert len(Strings(pattern, random.Random(0)).draw()) <= 1500


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
        (r"(a)\1", "a backreference"),
        ("(?P<n>a)(?P=n)", "a backreference"),
        ("(a)?(?(1)b|c)", "a conditional group"),
        ("(?=a)a", "a lookaround"),
        ("(?<!b)a", "a lookaround"),
        ("(?!)", "a lookaround"),
        ("(?>a)b", "an atomic group"),
        ("a{1,3}+b", "a possessive repetition"),
        ("a.", "a dot"),
        (r"a\b", "an anchor or a boundary"),
        ("(?:^){3}a", "an anchor or a boundary"),
        ("a{2,}", "without an upper bound"),
        ("a{3,2}", "is not valid"),
        ("a{99999999999}", "is not valid"),
        ("a{" + "9" * 5000 + "}", "is not valid"),
        ("(a" * 60 + ")" * 60, "nests more than 50"),
        ("(" * 5000 + ")" * 5000, "is not valid"),
        ("a{1,2001}", "more than 2000 symbols"),
    ],
)
def test_patterns_outside_the_supported_kind_are_refused_by_name(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)) as refused:
        Automaton([pattern])
    assert repr(pattern) in str(refused.value)


def test_a_language_too_tangled_to_count_is_refused() -> None:
    with pytest.raises(ValueError, match="too ambiguous"):
        Automaton(["(?:a|b){0,20}a(?:a|b){20}"]).count()
