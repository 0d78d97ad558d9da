"""Facts about English words that are nouns and verbs alike, by rule.

in:  relations
out: {word: {relation: value}}

The words are ordered so that the most common come first; all of them have regular plurals.
"""

import re
from collections.abc import Sequence

COMMON = """
    work play call walk talk look help turn start show need change use love watch name place point hand face
    drink sleep run drive fall fight catch throw ride bite cut break hold swing shake rise stand sting swim spin
    answer visit offer order hope study party copy reply dance joke jump laugh cook plan stop step drop trip trap
    park paint plant print post rain rest risk sail search shout sign smile sound stamp taste test thank touch trade
    train treat trust vote wait wash wish wonder yawn claim clean climb cough count cover crash cross crowd cry
    fix box hug nod jog map pin pat hunt iron kick kiss knock land lock march mark match melt milk mix
"""
WORDS = COMMON.split()
PAST = {
    "drink": "drank", "sleep": "slept", "run": "ran", "drive": "drove", "fall": "fell", "fight": "fought",
    "catch": "caught", "throw": "threw", "ride": "rode", "bite": "bit", "cut": "cut", "break": "broke", "hold": "held",
    "swing": "swung", "shake": "shook", "rise": "rose", "stand": "stood", "sting": "stung", "swim": "swam",
    "spin": "spun", "show": "showed",
}  # fmt: skip


RELATIONS = ("plural", "past_tense", "ing_form", "upper_case", "first_letter", "last_letter", "length")


def facts(relations: Sequence[str]) -> dict[str, dict[str, str]]:
    return {word: {relation: _facts(word)[relation] for relation in relations} for word in WORDS}


def _facts(word: str) -> dict[str, str]:
    return {
        "plural": _plural(word),
        "past_tense": _past_tense(word),
        "ing_form": (word[:-1] if word.endswith("e") else _doubled(word)) + "ing",
        "upper_case": word.upper(),
        "first_letter": word[0],
        "last_letter": word[-1],
        "length": str(len(word)),
    }


def _plural(word: str) -> str:
    return word + "es" if re.search(r"(s|x|ch|sh)$", word) else _consonant_y(word, "ies") or word + "s"


def _past_tense(word: str) -> str:
    regular = word + "d" if word.endswith("e") else _doubled(word) + "ed"
    return PAST.get(word) or _consonant_y(word, "ied") or regular


def _consonant_y(word: str, ending: str) -> str:
    """The word with y replaced by an ending, "" where no consonant and y end it."""
    return word[:-1] + ending if re.search(r"[^aeiou]y$", word) else ""


def _doubled(word: str) -> str:
    """The word, its last letter twice where it is one syllable that ends in one vowel and one consonant, as stop."""
    return word + word[-1] if re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", word) else word
