"""Task families: properties of the paper's tasks, and what is held out."""

import os
import re
import subprocess
import sys
from collections import Counter, defaultdict

import pytest
from conftest import default, family

from taskcluster.tasks.family import TaskFamily

# The default family of seed 0. A change here changes every published number: say so in the CHANGELOG.
DEFAULT_FINGERPRINT = "523bab5d99544b3d8e320184b8eeca458ec4126f1a7781cc5d67d09f6b880b4f"


@pytest.mark.parametrize("regexes_per_task", [1, 3])
def test_no_instruction_is_in_the_language_of_another_regex(regexes_per_task: int) -> None:
    tasks = family(regexes_per_task=regexes_per_task).tasks
    groups = [(re.compile(r), set(g)) for t in tasks for r, g in zip(t.descriptions, t.instructions, strict=True)]
    for number, (_, instructions) in enumerate(groups):
        for other, (pattern, _) in enumerate(groups):
            matching = [i for i in instructions if pattern.fullmatch(i)]
            assert len(matching) == (len(instructions) if other == number else 0)


def test_a_lone_symbol_or_input_does_not_give_the_task_away(default_family: TaskFamily) -> None:
    tasks_of_symbol, tasks_of_input, answers = defaultdict(set), defaultdict(set), defaultdict(set)
    for task in default_family.tasks:
        for symbol in {s for i in task.all_instructions for s in i}:
            tasks_of_symbol[symbol].add(task.task_id)
        for x, y in task.mapping.items():
            tasks_of_input[x].add(task.task_id)
            answers[x].add(y)
    assert min(map(len, tasks_of_symbol.values())) >= 10
    assert {len(tasks) for tasks in tasks_of_input.values()} == {12, 13}
    assert min(map(len, answers.values())) >= 2


def test_the_default_family_is_the_same_in_every_process() -> None:
    values = {key: value for key, value in default()["task"].items() if key != "_target_"}
    code = f"from taskcluster.tasks.regex import random_family; print(random_family(**{values!r}).fingerprint())"
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == family().fingerprint() == DEFAULT_FINGERPRINT


@pytest.mark.parametrize(
    ("changes", "fingerprint"),
    [
        (
            {"regexes_per_task": 3, "holdout": "description"},
            "a172c04a0dfba5528dcfccd0d8cd702681fd3e4de13f299d85e73e56f89f2329",
        ),
        ({"n_tasks": 300, "seed": 7}, "620f72ebf3cf323614ac3f94a65ea5a1107ec78dd7cf7379ab01378269bcf60f"),
        ({"holdout": "pair", "seed": 1}, "498a32ced973ceb9ec901cd57f467b06cd14d2895c3679263880257fb3885f12"),
    ],
)
def test_other_families_are_as_they_were_first_drawn(changes: dict[str, object], fingerprint: str) -> None:
    assert family(**changes).fingerprint() == fingerprint


def test_an_alphabet_may_hold_any_symbol() -> None:
    tasks = family(n_tasks=8, alphabet="]^-[.*+?(){}|\\$/ ,é").tasks
    assert {s for task in tasks for i in task.all_instructions for s in i} <= set("]^-[.*+?(){}|\\$/ ,é")
    assert all(re.fullmatch(task.descriptions[0], i) for task in tasks for i in task.all_instructions)


def test_holding_out_instructions(default_family: TaskFamily) -> None:
    split = default_family.split()
    seen, unseen = ({(e.task_id, e.instruction) for e in split[name]} for name in ("train", "val"))
    assert not seen & unseen
    held_out = Counter(task for task, _ in unseen)
    for task in default_family.tasks:
        assert held_out[task.task_id] == round(0.2 * len(task.all_instructions))
    assert len(split["train"]) + len(split["val"]) == 50 * 152 * 5


@pytest.mark.parametrize(("n_mappings", "fraction"), [(5, 0.2), (2, 0.4), (3, 0.5)])
def test_holding_out_pairs(n_mappings: int, fraction: float) -> None:
    split = family(holdout="pair", n_mappings=n_mappings, val_fraction=fraction).split()
    seen, unseen = ({e[:3] for e in split[name]} for name in ("train", "val"))
    assert not seen & unseen
    assert {e[:2] for e in unseen} <= {e[:2] for e in seen}  # each instruction was seen
    assert {(e[0], e[2]) for e in unseen} <= {(e[0], e[2]) for e in seen}  # each x of the task was seen
    assert len(unseen) == pytest.approx(fraction * (len(seen) + len(unseen)), rel=0.01)


def test_holding_out_a_description() -> None:
    tasks = family(holdout="description", regexes_per_task=3, n_tasks=10)
    split = tasks.split()
    assert {e.instruction for e in split["val"]} == {i for task in tasks.tasks for i in task.instructions[-1]}
    assert not {e.description for e in split["val"]} & {e.description for e in split["train"]}


def test_holding_out_inputs() -> None:
    split = family(holdout="x", n_tasks=6, n_inputs=6, n_mappings=4, val_fraction=0.5).split()
    seen, unseen = ({e.x for e in split[name]} for name in ("train", "val"))
    assert not seen & unseen
    assert (len(seen), len(unseen)) == (3, 3)
    assert {e[:2] for e in split["val"]} == {e[:2] for e in split["train"]}  # each instruction of each task was seen


def test_shuffled_outputs_are_as_frequent_after_an_x_and_independent_of_the_task() -> None:
    plain, shuffled = family(), family(shuffle_outputs=True)
    before, after = plain.split(), shuffled.split()
    assert after["val"] == before["val"]
    assert [e._replace(y="") for e in after["train"]] == [e._replace(y="") for e in before["train"]]
    assert shuffled.fingerprint() != plain.fingerprint()
    mappings, chance = [task.mapping for task in plain.tasks], 0.0
    for x in {e.x for e in before["train"]}:
        outputs = Counter(mapping[x] for mapping in mappings if x in mapping)
        told, drawn = (Counter(e.y for e in split["train"] if e.x == x) for split in (before, after))
        for y, count in outputs.items():
            assert drawn[y] / drawn.total() == pytest.approx(count / outputs.total(), abs=0.05)
            chance += told[y] * count / outputs.total()
    right = sum(e.y == mappings[e.task_id][e.x] for e in after["train"])
    assert right == pytest.approx(chance, rel=0.03)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_mappings": 21}, "n_mappings=21 exceeds n_inputs=20"),
        ({"n_tasks": 7}, "n_inputs=20 is too many for 7 tasks"),
        ({"n_outputs": 1}, "n_outputs=1 means that no two tasks can disagree"),
        ({"class_size": [4, 2]}, r"class_size=\[4, 2\] has its bounds in the wrong order"),
        ({"class_size": [2, 21]}, r"class_size=\[2, 21\] exceeds the 20 symbols"),
        ({"instructions_spread": 152}, "instructions_spread=152 leaves a task with fewer instructions"),
        ({"max_repeat": 2000}, "at most 2000 symbols"),
        ({"alphabet": "ab", "class_size": [1, 2]}, "no other regex matches too; .* or lengthen alphabet"),
        ({"n_atoms": [1, 2], "max_repeat": 1}, r"n_atoms=\[1, 2\] over this alphabet give no regex with 1600 strings"),
        ({"holdout": "description"}, "holdout='description' needs two descriptions a task"),
        ({"holdout": "pair", "n_mappings": 1, "n_inputs": 5}, "leaves a task without training or validation: task 0"),
        ({"holdout": "x", "val_fraction": 0.05}, "val_fraction=0.05 leaves a task without training or validation"),
        ({"val_fraction": 0.001}, "val_fraction=0.001 leaves a task without training or validation"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        family(**changes)
