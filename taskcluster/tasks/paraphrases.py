"""Paraphrases of a task from a small grammar: an instruction is a structure around a sentence around a phrase.

in:  a Wording: phrases for a relation, such as "the capital of {x}" and "the seat of government of {x}"
out: {structure: instructions}, each of which holds {x}, the place of x, and ends where y follows after a space
"""

from collections.abc import Sequence
from typing import NamedTuple

from taskcluster.tasks.family import SLOT

Groups = dict[str, tuple[str, ...]]  # description -> its instructions

ASKED = ("What is PHRASE?", "Can you tell me PHRASE?", "Do you know PHRASE?", "Could you name PHRASE?")
STRUCTURES = {
    "Question: ...\nAnswer:": ASKED,
    "Q: ...\nA:": ASKED,
    "Student: ...\nTeacher:": ASKED,
    "Task: ...\nResult:": ("Name PHRASE.", "Give PHRASE.", "Tell me PHRASE.", "Write down PHRASE."),
    "...": ("PHRASE is", "As everyone knows, PHRASE is", "I looked it up: PHRASE is", "In short, PHRASE is"),
    "Note: ...": (f"KIND: {SLOT}\nLABEL:", f"{SLOT}\nLABEL:", f"LABEL of {SLOT}:", f"KIND {SLOT}, LABEL:"),
}


class Wording(NamedTuple):
    """kind: what x is, such as "country". label: a name of the relation. phrases: noun phrases that hold {x}."""

    kind: str
    label: str
    phrases: Sequence[str]


def paraphrases(wording: Wording) -> Groups:
    return {
        structure: tuple(
            dict.fromkeys(structure.replace("...", _filled(s, wording, p)) for s in sentences for p in wording.phrases)
        )
        for structure, sentences in STRUCTURES.items()
    }


def _filled(sentence: str, wording: Wording, phrase: str) -> str:
    filled = sentence.replace("PHRASE", phrase).replace("KIND", wording.kind).replace("LABEL", wording.label)
    return filled[0].upper() + filled[1:]


def wording_of_name(name: str) -> Wording:
    """Return a wording for a task of which only the name is known."""
    words = " ".join(name.replace("_", " ").replace("-", " ").split())
    return Wording("input", words, (f"the {words} of {SLOT}", f"the {words} for {SLOT}", f"{words} applied to {SLOT}"))


PHRASES: dict[str, dict[str, Sequence[str]]] = {  # kind -> relation -> its label, and its phrases
    "country": {
        "capital": (
            "capital", "the capital of {x}", "the capital city of {x}", "the city that {x} is governed from"
        ),
        "continent": (
            "continent", "the continent of {x}", "the continent that {x} is on", "the continent where {x} is"
        ),
        "region": (
            "region", "the region of {x}", "the part of the world that {x} is in", "the world region around {x}"
        ),
        "currency": ("currency", "the currency of {x}", "the money used in {x}", "the legal tender of {x}"),
        "language": (
            "language", "the main language of {x}", "the official language of {x}", "the language spoken in {x}"
        ),
        "demonym": (
            "demonym", "the demonym of {x}", "the word for someone from {x}", "the adjective that belongs to {x}"
        ),
        "domain": ("domain", "the internet domain of {x}", "the web domain of {x}", "the top-level domain of {x}"),
        "two_letter_code": (
            "two-letter code", "the two-letter code of {x}", "the ISO alpha-2 code of {x}",
            "the code of {x} in two letters",
        ),
        "three_letter_code": (
            "three-letter code", "the three-letter code of {x}", "the ISO alpha-3 code of {x}",
            "the code of {x} in three letters",
        ),
        "calling_code": (
            "calling code", "the calling code of {x}", "the telephone prefix of {x}", "the number to dial first for {x}"
        ),
    },
    "word": {
        "plural": ("plural", "the plural of {x}", "the plural form of {x}", "the form of {x} for more than one"),
        "past_tense": (
            "past tense", "the past tense of {x}", "the simple past of {x}",
            "the form of {x} for what happened yesterday",
        ),
        "ing_form": (
            "-ing form", "the -ing form of {x}", "the present participle of {x}", "the form of {x} for what happens now"
        ),
        "upper_case": (
            "upper case", "the upper case of {x}", "the word {x} in capitals", "the spelling of {x} in capital letters"
        ),
        "first_letter": (
            "first letter", "the first letter of {x}", "the initial of {x}", "the letter at the start of {x}"
        ),
        "last_letter": (
            "last letter", "the last letter of {x}", "the final letter of {x}", "the letter at the end of {x}"
        ),
        "length": ("length", "the length of {x}", "the number of letters in {x}", "the letter count of {x}"),
    },
}  # fmt: skip
WORDINGS = {
    relation: Wording(kind, label, phrases)
    for kind, relations in PHRASES.items()
    for relation, (label, *phrases) in relations.items()
}
