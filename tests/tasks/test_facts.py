"""Facts in words: true, complete, told in many ways, and never shown before they are asked."""

import builtins
import random
from collections import defaultdict
from typing import Any

import pytest
from conftest import Outcome
from hypothesis import given
from hypothesis import strategies as st

from taskcluster.cli import composed
from taskcluster.tasks import countries, words
from taskcluster.tasks.demonstrations import Layout, demonstration_sets
from taskcluster.tasks.facts import RELATIONS, facts_family
from taskcluster.tasks.family import SLOT, Task, TaskFamily
from taskcluster.tasks.paraphrases import WORDINGS, paraphrases


def facts(**changes: Any) -> TaskFamily:
    """A family from conf/task/facts.yaml with some values changed."""
    values = composed("task=facts")["task"] | changes
    del values["_target_"]
    return facts_family(**values)


def instructions(task: Task) -> list[str]:
    return [instruction for group in task.instructions for instruction in group]


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
        ("Turkey", {"capital": "Ankara", "language": "Turkish"}),
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
        ("run", ["runs", "ran", "running", "RUN", "r", "n", "3"]),
    ],
)
def test_facts_about_words_are_true(word: str, known: list[str]) -> None:
    relations = ["plural", "past_tense", "ing_form", "upper_case", "first_letter", "last_letter", "length"]
    assert words.facts(relations)[word] == dict(zip(relations, known, strict=True))


def test_every_country_has_one_value_in_ascii_for_each_chosen_relation() -> None:
    everything = countries.facts([*countries.RELATIONS])
    assert len(everything) > 200
    for country, values in everything.items():
        assert values.keys() == countries.RELATIONS.keys()
        assert all(text.isascii() and text.strip() == text != "" for text in (country, *values.values()))
    assert "Dominican Republic" in countries.facts(["capital"])
    assert "Dominican Republic" not in everything  # which has three calling codes


def test_relations_share_their_inputs_and_disagree_about_them() -> None:
    family = facts()
    first, *others = family.tasks
    assert [task.name for task in family.tasks] == default_relations()
    assert len(first.mapping) == 40
    assert all(other.mapping.keys() == first.mapping.keys() for other in others)
    answers = defaultdict(set)
    for task in family.tasks:
        for x, y in task.mapping.items():
            answers[x].add(y)
    assert all(len(ys) >= 4 for ys in answers.values())
    assert first.mapping["France"] == "Paris"


def default_relations() -> list[str]:
    return list(composed("task=facts")["task"]["relations"])


def test_relations_of_countries_and_of_words_can_be_mixed() -> None:
    family = facts(relations=["plural", "capital", "length"], n_inputs=7)
    assert [task.name for task in family.tasks] == ["plural", "capital", "length"]
    assert family.tasks[0].mapping.keys() == family.tasks[2].mapping.keys()
    assert not family.tasks[0].mapping.keys() & family.tasks[1].mapping.keys()


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_relation_has_thirty_paraphrases_in_five_structures(relation: str) -> None:
    groups = paraphrases(WORDINGS[relation])
    every = [instruction for group in groups.values() for instruction in group]
    assert len(groups) >= 5
    assert len(set(every)) == len(every) >= 30
    assert all(instruction.count(SLOT) == 1 and instruction == instruction.strip() for instruction in every)
    for structure, group in groups.items():
        opening, closing = structure.split("...")
        assert all(instruction.startswith(opening) and instruction.endswith(closing) for instruction in group)


def test_all_relations_together_have_no_instruction_in_common() -> None:
    family = facts(relations=RELATIONS, n_inputs=5)  # which refuses what they have in common
    assert "Question: What is the capital of {x}?\nAnswer:" in instructions(family.tasks[0])


def test_a_number_of_paraphrases_is_drawn_from_all_structures() -> None:
    for task in facts(n_instructions=20).tasks:
        assert len(instructions(task)) == 20
        assert {len(group) for group in task.instructions} == {3, 4}


def test_demonstrations_never_contain_the_query() -> None:
    family = facts(describe="demonstrations", n_demonstrations=3, n_sets=12)
    shown = set()
    for task in family.tasks:
        assert len(task.mapping) == 40
        assert [len(group) for group in task.instructions] == [1] * 12
        for description, (instruction,) in zip(task.descriptions, task.instructions, strict=True):
            assert instruction == description + "Q: {x}\nA:"
            lines = description.strip().splitlines()
            inputs = [line.removeprefix("Q: ") for line in lines if line.startswith("Q: ")]
            assert len({*inputs}) == 3
            shown |= {*inputs}
    assert len(shown) == 10
    assert not shown & {x for task in family.tasks for x in task.mapping}


def test_demonstrations_are_pairs_of_the_task() -> None:
    task = facts(describe="demonstrations", relations=["capital", "length"], layout="{x} -> {y}; ").tasks[0]
    for description in task.descriptions:
        pairs = [pair.split(" -> ") for pair in description.removesuffix("; ").split("; ")]
        assert len(pairs) == 5
        assert all(countries.facts(["capital"])[x]["capital"] == y for x, y in pairs)
    assert instructions(task)[0].endswith("; {x} ->")


@given(size=st.integers(1, 4), n_sets=st.integers(1, 6), spare=st.integers(0, 5), seed=st.integers(0, 99))
def test_disjoint_sets_have_no_pair_in_common(size: int, n_sets: int, spare: int, seed: int) -> None:
    shown = {f"x{k}": f"y{k}" for k in range(size * n_sets + spare)}
    layout = Layout("{x}: {y}\n")
    sets = demonstration_sets(shown, size, n_sets, layout, random.Random(seed), disjoint=True)
    pairs = [line for demonstrated in sets for line in demonstrated.splitlines()]
    assert len(sets) == n_sets
    assert len(pairs) == len({*pairs}) == size * n_sets
    assert {*pairs} <= {f"{x}: {y}" for x, y in shown.items()}
    with pytest.raises(ValueError, match=f"needs {size * (n_sets + spare + 1)} pairs to show .* raise n_pool to"):
        demonstration_sets(shown, size, n_sets + spare + 1, layout, random.Random(seed), disjoint=True)


def test_tasks_with_disjoint_demonstrations_are_asked_what_others_are_asked() -> None:
    told = {"describe": "demonstrations", "n_sets": 4, "n_pool": 20}
    family, others = (facts(**told, disjoint_demonstrations=disjoint) for disjoint in (True, False))
    assert [task.mapping for task in family.tasks] == [task.mapping for task in others.tasks]
    for task in family.tasks:
        shown = [line for text in task.descriptions for line in text.splitlines() if line.startswith("Q: ")]
        assert len({*shown}) == len(shown) == 20


def test_templates_of_a_users_own_replace_the_paraphrases_of_a_relation() -> None:
    own = ["The capital of {x} is", "{x} is governed from"]
    family = facts(templates={"capital": own}, val_fraction=0.5)
    assert family.tasks[0].descriptions == (*own,)
    assert family.tasks[0].instructions == ((own[0],), (own[1],))
    assert len(instructions(family.tasks[1])) == 64


@pytest.mark.parametrize("describe", ["instruction", "demonstrations"])
def test_the_same_seed_gives_the_same_family(describe: str) -> None:
    some = {"describe": describe, "n_instructions": 30}
    assert facts(**some, seed=1).fingerprint() == facts(**some, seed=1).fingerprint()
    assert facts(**some, seed=1).fingerprint() != facts(**some, seed=2).fingerprint()


def test_inputs_that_are_held_out_are_in_no_task_of_training() -> None:
    split = facts(holdout="x", n_instructions=6).split()
    seen, unseen = ({example.x for example in split[name]} for name in ("train", "val"))
    assert not seen & unseen
    assert len(unseen) == round(0.2 * 40)
    assert {example.task_id for example in split["val"]} == {*range(6)}
    assert {example.instruction for example in split["val"]} == {example.instruction for example in split["train"]}


def test_holding_out_a_description_holds_out_a_structure() -> None:
    family = facts(holdout="description")
    assert {e.instruction for e in family.split()["val"]} == {i for t in family.tasks for i in t.instructions[-1]}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"relations": ["capital", "capitol"]}, "relations='capitol' is not a relation; did you mean 'capital'"),
        ({"relations": ["capital", "xyz"]}, "relations='xyz' is not a relation; choose from capital, continent"),
        ({"relations": ["capital", "capital"]}, "names one twice"),
        ({"n_inputs": 500}, "n_inputs=500 exceeds the 2.. countries"),
        ({"n_inputs": 115, "relations": ["plural", "length"], "describe": "demonstrations"}, "exceeds the 110 words"),
        ({"describe": "demonstrations", "n_pool": 500}, "n_pool=500 leaves none of the 2.. countries"),
        ({"describe": "demonstrations", "templates": {"capital": ["{x}"]}}, "does not use templates .of capital"),
        ({"n_instructions": 5}, "n_instructions=5 is not from 6 to 64"),
        ({"n_instructions": 65}, "n_instructions=65 is not from 6 to 64"),
        ({"templates": {"captal": ["{x}"]}}, "templates='captal' is not the name of a task; did you mean 'capital'"),
        ({"templates": {"capital": ["capital of"]}}, "templates='capital of' of capital must hold {x}"),
        ({"templates": {"capital": []}}, "of capital has none"),
        ({"describe": "demonstrations", "n_demonstrations": 11}, "n_demonstrations=11 exceeds the 10 pairs"),
        (
            {"describe": "demonstrations", "n_pool": 2, "n_demonstrations": 2},
            "n_sets=40 exceeds the 2 sets ",
        ),
        ({"describe": "demonstrations", "layout": "{x!r} {y}\n"}, "must hold {x} and then {y}"),
        ({"describe": "demonstrations", "disjoint_demonstrations": True}, "needs 200 pairs to show for n_sets=40 of 5"),
        ({"describe": "demonstrations", "layout": "{x}{y}\n"}, "with a space before {y}"),
        ({"describe": "demonstrations", "layout": "{y} {x} "}, "must hold {x} and then {y}"),
        (
            {"templates": {"capital": ["of {x}", "in {x}"], "currency": ["of {x}", "in {x}"]}},
            "belongs to tasks 0 and 2",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("{", r"\{")):
        facts(**changes)


def test_a_layout_may_hold_braces_of_its_own() -> None:
    layout = Layout("{{{x}: {y}}}\n")
    assert (layout.pair("a", "b"), layout.query) == ("{a: b}\n", "{{x}:")


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "countryinfo":
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match=r'pip install "taskcluster-lm\[facts\]"'):
        facts()
    assert facts(relations=["plural", "length"]).tasks[0].mapping["watch"] == "watches"


def test_a_wrong_relation_is_said_in_one_sentence(taskcluster_train: Any) -> None:
    outcome: Outcome = taskcluster_train("task=facts", "task.relations=[capital,capitol]")
    assert outcome.exit_code == 2
    assert outcome.err.splitlines() == [
        "taskcluster-train: task.relations='capitol' is not a relation; did you mean 'capital'?"
    ]
