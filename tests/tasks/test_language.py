"""Strings drawn from a regex are those that re.fullmatch accepts."""

import random
import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcluster.tasks.language import Drawer, Drawing, parsed

PARTS = st.recursive(
    st.sampled_from(["a", "b", "[ab]", "[a-c]", "(?:a|bc)", "(?:|c)", r"\x61", "(?:ab?){0,2}", "(?:a|ab)(?:c|bc)"]),
    lambda parts: st.one_of(
        st.builds("(?:{}){}".format, parts, st.sampled_from(["?", "{1,2}", "{2}", "{,2}", "{0}", "{0,1}?", "??"])),
        st.builds("({}{})".format, parts, parts),
        st.builds("(?:{}|{})".format, parts, parts),
    ),
    max_leaves=4,
)


@given(PARTS, st.integers(0, 99))
def test_drawn_strings_are_those_that_fullmatch_accepts(regex: str, seed: int) -> None:
    drawing = Drawing(random.Random(seed))
    assert all(re.fullmatch(regex, drawing.xeger(regex)) for _ in range(20))


@pytest.mark.parametrize("regex", ["(?:a|bc)?[ab]{0,2}", "(a|ab)(c|bc){1,2}", "(?:|c)(?:ab?){0,2}"])
def test_all_strings_of_a_language_are_drawn(regex: str) -> None:
    possible = ("".join(symbols) for n in range(7) for symbols in product("abc", repeat=n))
    language = {string for string in possible if re.fullmatch(regex, string)}
    assert {Drawing(random.Random(seed)).xeger(regex) for seed in range(2000)} == language


@pytest.mark.parametrize(
    ("regex", "lengths"), [("[pq]{1,200}", range(1, 201)), ("a{,130}", range(131)), ("(?:a{150}|b{160})", [150, 160])]
)
def test_repetitions_are_drawn_up_to_their_bound(regex: str, lengths: list[int]) -> None:
    drawn = {len(Drawing(random.Random(seed)).xeger(regex)) for seed in range(300)}
    assert drawn <= {*lengths}
    assert max(drawn) > 100


@pytest.mark.parametrize(
    "regex",
    ["[ab", "*a", "a+", "a*", "a.", "[^a]", r"\d", "^a$", "(?i)a", "(?i:a)b", r"(a)\1", "(?=a)a", "(?>a)b", "a{1,3}+b",
     "a{2,}", "a{3,2}", "a{" + "9" * 5000 + "}", "(" * 5000 + ")" * 5000, "a{1,2001}", "((a{100}){100}){100}"],
)  # fmt: skip
def test_other_regexes_are_refused_by_name(regex: str) -> None:
    with pytest.raises(ValueError, match="cannot be used") as refused:
        parsed(regex)
    assert f"regex {regex!r} " in str(refused.value)


@pytest.mark.parametrize(
    ("regexes", "reason"),
    [
        (["a{0}", "b{1,9}"], r"'a\{0\}' gives only 0 of 2"),
        (["a[xyz]?", "a|b"], r"'a\|b' gives only 1 of 2"),
        (["[ab]{1,200}", "[ab]{1,201}"], "gives only 0 of 2"),
    ],
)
def test_languages_that_are_too_small_are_refused(regexes: list[str], reason: str) -> None:
    drawer = Drawer(regexes, random.Random(0), "widen it")
    with pytest.raises(ValueError, match=reason):
        [drawer.instructions([regex], 2) for regex in regexes]
