"""Facts in words: true, complete, paraphrased in many ways, and never demonstrated and queried in one prompt."""

import builtins
from collections import defaultdict
from typing import Any

import pytest

from taskcluster.operations.command_line.cli import composed
from taskcluster.tasks import countries, words
from taskcluster.tasks.facts import RELATIONS, facts_family
from taskcluster.tasks.family import SLOT, Task, TaskFamily
from taskcluster.tasks.paraphrases import WORDINGS, paraphrases

FEW_SHOT = {"describe": "demonstrations"}


def facts(**changes: Any) -> TaskFamily:
    """A family from conf/task/facts.yaml with some values changed."""
    values = composed("task=facts")["task"] | changes
    del values["_target_"]
    return facts_family(**values)


def demonstrated(task: Task) -> list[list[str]]:
    """The inputs of each set of demonstrations."""
    return [[line[3:] for line in text.splitlines() if line.startswith("Q: ")] for text in task.descriptions]


@pytest.mark.parametrize(
    ("country", "known"),
    [
        (
            "France",
            {
                "capital": "Paris",
                "continent": "Europe",
                "region": "Western Europe",
                "currency": "Euro",
                "language": "French",
                "demonym": "French",
                "domain": ".fr",
                "two_letter_code": "FR",
                "three_letter_code": "FRA",
                "calling_code": "+33",
            },
        ),
        ("Brazil", {"capital": "Brasilia", "continent": "South America", "currency": "Brazilian Real"}),
        ("Mexico", {"capital": "Mexico City", "continent": "North America", "region": "Central America"}),
        ("United Kingdom", {"domain": ".uk", "two_letter_code": "GB", "demonym": "British"}),
        ("Kazakhstan", {"capital": "Astana", "currency": "Kazakhstani Tenge"}),
        ("Norway", {"language": "Norwegian", "calling_code": "+47"}),
        ("Cote d'Ivoire", {"capital": "Yamoussoukro", "language": "French"}),
    ],
)
def test_facts_about_countries_are_true(country: str, known: dict[str, str]) -> None:
    assert countries.facts([*known])[country] == known


@pytest.mark.parametrize(
    ("word", "known"),
    [
        ("watch", ["watches", "watched", "watching", "WATCH", "w", "h", "5"]),
        ("study", ["studies", "studied", "studying", "STUDY", "s", "y", "5"]),
        ("play", ["plays", "played", "playing", "PLAY", "p", "y", "4"]),
        ("stop", ["stops", "stopped", "stopping", "STOP", "s", "p", "4"]),
        ("drive", ["drives", "drove", "driving", "DRIVE", "d", "e", "5"]),
        ("fix", ["fixes", "fixed", "fixing", "FIX", "f", "x", "3"]),
        ("visit", ["visits", "visited", "visiting", "VISIT", "v", "t", "5"]),
    ],
)
def test_facts_about_words_are_true(word: str, known: list[str]) -> None:
    assert words.facts(words.RELATIONS)[word] == dict(zip(words.RELATIONS, known, strict=True))


def test_every_country_has_one_value_in_ascii_for_each_chosen_relation() -> None:
    everything = countries.facts(countries.RELATIONS)
    assert len(everything) > 200
    for country, values in everything.items():
        assert [*values] == [*countries.RELATIONS]
        assert all(text.isascii() and text.strip() == text != "" for text in (country, *values.values()))
    assert "Dominican Republic" in countries.facts(["capital"])
    assert "Dominican Republic" not in everything  # which has three calling codes


def test_relations_share_their_inputs_and_disagree_about_them() -> None:
    family = facts()
    first, *others = family.tasks
    assert len(first.mapping) == 40
    assert all(other.mapping.keys() == first.mapping.keys() for other in others)
    answers = defaultdict(set)
    for task in family.tasks:
        for x, y in task.mapping.items():
            answers[x].add(y)
    assert all(len(ys) >= 4 for ys in answers.values())
    assert first.mapping["France"] == "Paris"


def test_relations_have_paraphrases_in_several_structures_and_none_in_common() -> None:
    for relation in RELATIONS:
        groups = paraphrases(WORDINGS[relation])
        every = [instruction for group in groups.values() for instruction in group]
        assert len(groups) >= 5
        assert len(set(every)) == len(every) >= 30
        assert all(instruction.count(SLOT) == 1 and instruction == instruction.strip() for instruction in every)
    family = facts(relations=RELATIONS, n_inputs=5)  # which refuses what they have in common
    assert "Question: What is the capital of {x}?\nAnswer:" in family.tasks[0].all_instructions


@pytest.mark.parametrize("disjoint", [False, True])
def test_demonstrations_are_pairs_of_the_task_that_nobody_asks_about(disjoint: bool) -> None:
    family = facts(**FEW_SHOT, n_demonstrations=3, n_sets=4, n_pool=12, disjoint_demonstrations=disjoint)
    capitals = countries.facts(["capital"])
    shown = set()
    for task in family.tasks:
        sets = demonstrated(task)
        assert [len(inputs) for inputs in sets] == [len({*inputs}) for inputs in sets] == [3] * 4
        assert len({x for inputs in sets for x in inputs}) == 12 or not disjoint
        assert task.all_instructions == [description + "Q: {x}\nA:" for description in task.descriptions]
        shown |= {x for inputs in sets for x in inputs}
    assert not shown & {x for task in family.tasks for x in task.mapping}
    country = demonstrated(family.tasks[0])[0][0]
    assert f"Q: {country}\nA: {capitals[country]['capital']}\n\n" in family.tasks[0].descriptions[0]


@pytest.mark.parametrize("describe", ["instruction", "demonstrations"])
def test_the_same_seed_gives_the_same_family(describe: str) -> None:
    some = {"describe": describe, "n_instructions": 30}
    assert facts(**some, seed=1).fingerprint() == facts(**some, seed=1).fingerprint()
    assert facts(**some, seed=1).fingerprint() != facts(**some, seed=2).fingerprint()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"relations": ["capital", "capitol"]}, "relations='capitol' is not a relation; did you mean 'capital'"),
        ({"relations": ["capital", "xyz"]}, "relations='xyz' is not a relation; choose from capital, continent"),
        ({"n_inputs": 500}, "n_inputs=500 and n_pool=0 inputs to demonstrate exceed the 2.. countries"),
        ({**FEW_SHOT, "n_pool": 500}, "n_pool=500 inputs to demonstrate exceed the 2.. countries"),
        ({**FEW_SHOT, "templates": {"capital": ["{x}"]}}, "does not use templates"),
        ({"n_instructions": 65}, "n_instructions=65 is not between 6 and 64"),
        ({"templates": {"captal": ["{x}"]}}, "templates='captal' is not the name of a task; did you mean 'capital'"),
        ({"templates": {"capital": ["capital of"]}}, "instruction 'capital of' must hold {x}"),
        ({"templates": {"capital": []}}, "task 0 has task_id=0, 0 descriptions"),
        (
            {**FEW_SHOT, "n_demonstrations": 11},
            "exceeds the 0 sets of n_demonstrations=11 that can be drawn from 10 demonstration pairs",
        ),
        ({**FEW_SHOT, "n_pool": 2, "n_demonstrations": 2}, "n_sets=40 exceeds the 2 sets "),
        ({**FEW_SHOT, "disjoint_demonstrations": True}, "n_sets=40 exceeds the 2 disjoint sets"),
        ({**FEW_SHOT, "layout": "{x!r} {y}\n"}, "must hold {x} and then {y}"),
        ({**FEW_SHOT, "layout": "{x}{y}\n"}, "with a space before {y}"),
        ({"templates": {"capital": ["of {x}", "in {x}"], "currency": ["of {x}", "in {x}"]}}, "belongs to tasks 0 and"),
    ],
)
def test_mistakes_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("{", r"\{")):
        facts(**changes)


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "countryinfo":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match=r'pip install "taskcluster-lm\[facts\]"'):
        facts()
    assert facts(relations=["plural", "length"]).tasks[0].mapping["watch"] == "watches"


WORDS = {**FEW_SHOT, "relations": ["plural", "past_tense"], "n_inputs": 20}


def test_without_demonstrations_the_query_is_the_prompt_of_every_task_and_inputs_are_held_out() -> None:
    family = facts(**WORDS, n_demonstrations=0, val_fraction=0.5)
    assert [task.all_instructions for task in family.tasks] == [["Q: {x}\nA:"]] * 2
    inputs = {split: {example.x for example in examples} for split, examples in family.split().items()}
    assert [len(inputs["val"]), len(inputs["train"])] == [10, 10]
    assert not inputs["val"] & inputs["train"]


def test_one_demonstration_may_be_of_two_tasks() -> None:
    letters = {"relations": ["first_letter", "last_letter"], "n_pool": 90, "n_sets": 90}
    family = facts(**WORDS | letters, n_demonstrations=1)
    first, last = (set(task.all_instructions) for task in family.tasks)
    assert first & last


def test_another_seed_of_the_order_shows_the_same_pairs_in_another_order() -> None:
    drawn, again, other = (facts(**WORDS, n_demonstrations=4, order_seed=seed).tasks[0] for seed in (None, 0, 1))
    assert drawn.descriptions == again.descriptions
    pairs = [[sorted(text.split("\n\n")) for text in task.descriptions] for task in (drawn, other)]
    assert pairs[0] == pairs[1]
    assert sum(one != two for one, two in zip(drawn.descriptions, other.descriptions, strict=True)) > 30


def test_shuffled_labels_are_those_of_the_set_and_none_is_at_its_input() -> None:
    plain, shuffled = (facts(**WORDS, n_demonstrations=3, shuffle_labels=on).tasks[0] for on in (False, True))
    for before, after in zip(plain.descriptions, shuffled.descriptions, strict=True):
        right, wrong = ({*text.strip().split("\n\n")} for text in (before, after))
        assert not right & wrong
        assert sorted(before.split()) == sorted(after.split())
        assert demonstrated(plain) == demonstrated(shuffled)
    single = [facts(**WORDS, n_demonstrations=1, n_sets=5, shuffle_labels=on).fingerprint() for on in (False, True)]
    assert single[0] == single[1]
