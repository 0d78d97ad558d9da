"""A user's tasks: regexes or listed instructions in the configuration, and a family in a user's file."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL

from taskcluster.runs.folder import RunFolder
from taskcluster.tasks.custom import LISTED, custom_family
from taskcluster.tasks.family import Task, TaskFamily

CAPITALS = {"France": "Paris", "South Korea": "Seoul", "the United States": "Washington, D.C."}
LANGUAGES = {"France": "French", "South Korea": "Korean", "the United States": "English"}

# A family of words, in a file that does not belong to the package.
CODE = f"""
from taskcluster.tasks.family import Task, TaskFamily

RELATIONS = {{"capital": {CAPITALS!r}, "language": {LANGUAGES!r}}}
TEMPLATES = "the {{}} of", "which {{}} has"
MANNERS = "", "please : ", "quick : ", "name "


def relations(holdout: str, val_fraction: float, seed: int) -> TaskFamily:
    tasks = tuple(
        Task(
            task_id,
            tuple(template.format(relation) for template in TEMPLATES),
            tuple(tuple(manner + template.format(relation) for manner in MANNERS) for template in TEMPLATES),
            mapping,
        )
        for task_id, (relation, mapping) in enumerate(RELATIONS.items())
    )
    return TaskFamily(tasks, holdout, val_fraction, seed)
"""
CONFIG = """
_target_: mine.relations
holdout: description
val_fraction: 0.25
seed: ${seeds.tasks}
"""
WORDS = ("task=mine", *(word for word in SMALL if not word.startswith("task.")), "clusterer.n_clusters=2")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """mine/mine.py and mine/task/mine.yaml, a folder for --config-dir."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (tmp_path / "mine" / "task").mkdir(parents=True)
    (tmp_path / "mine" / "mine.py").write_text(CODE)
    (tmp_path / "mine" / "task" / "mine.yaml").write_text(CONFIG)
    return tmp_path / "mine"


@pytest.mark.slow
def test_every_process_of_a_multirun_finds_a_users_family(mine: Path) -> None:
    """Two jobs side by side, in processes of joblib's; two processes train each."""
    side_by_side = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trainer=ddp", "seed=0,1"]
    command = [sys.executable, "-m", "taskcluster.train", "--config-dir", "mine", "-m", *WORDS, *side_by_side]
    ended = subprocess.run(
        [*command, "trainer.max_steps=2", "name=ours"], cwd=mine.parent, capture_output=True, text=True, env=os.environ
    )
    assert ended.returncode == 0, ended.stderr
    runs = sorted((mine.parent / "multirun" / "ours").rglob("metrics.jsonl"))
    assert [len(RunFolder(journal.parent).rows()) for journal in runs] == [2, 2]


LISTS: list[dict[str, Any]] = [
    {"instructions": ["capital of", "main city of", "seat of government of"], "mapping": CAPITALS},
    {"instructions": ["language of", "tongue of"], "mapping": LANGUAGES},
]


def custom(tasks: list[dict[str, Any]], n: int = 2, fraction: float = 0.4) -> TaskFamily:
    return custom_family(tasks, n, holdout="instruction", val_fraction=fraction, seed=0)


def test_custom_tasks_are_drawn_from_their_regexes() -> None:
    specs = [
        {"regexes": ["a[xyz]{3,4}", "b[xyz]{3}"], "mapping": {"1": "2"}},
        {"regexes": ["[ac][xyz]{3}"], "mapping": {"1": "3"}},
    ]
    first, second = custom(specs, 25).tasks
    assert [len(group) for group in first.instructions] == [13, 12]
    assert all(re.fullmatch("b[xyz]{3}", i) for i in first.instructions[1])
    assert all(i.startswith("c") for i in second.instructions[0])  # those with a belong to both languages
    assert (first.mapping, second.mapping) == ({"1": "2"}, {"1": "3"})


def test_listed_instructions_go_with_regexes() -> None:
    family = custom([LISTS[0], {"regexes": ["tongue (of|in)", "(language|speech) in"], "mapping": LANGUAGES}], 4)
    assert family.words
    assert family.tasks[0].descriptions == (LISTED,)
    assert family.tasks[0].instructions == (tuple(LISTS[0]["instructions"]),)
    assert sorted(family.tasks[1].instructions[0]) == ["tongue in", "tongue of"]
    assert {e.description for split in family.split().values() for e in split if e.task_id} == {1, 2}


@pytest.mark.parametrize(
    ("names", "values"),
    [(("capital", "language"), ["capital", "language"]), (("capital", ""), None), (("capital", "capital"), None)],
)
def test_tasks_are_labelled_by_names_where_each_has_one(names: tuple[str, str], values: list[str] | None) -> None:
    family = custom([task | {"name": name} for task, name in zip(LISTS, names, strict=True)])
    assert family.values.get("task") == values
    assert family.fingerprint() == custom(LISTS).fingerprint()


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"instructions": ["main city of", "x"]}, "instruction 'main city of' belongs to tasks 0 and 1"),
        ({"regexes": ["(main|big) city of"]}, "instruction 'main city of' belongs to tasks 0 and 1"),
        ({"instructions": ["tongue of", "tongue of"]}, "task 1 has the instruction 'tongue of' 2 times"),
        ({"instructions": []}, "at least 1 item"),
        ({}, "give one of the two"),
        ({"instructions": ["a"], "regexes": ["b"]}, "give one of the two"),
        ({"regexes": ["[abc]{3}", "[abc]{3}"]}, r"regex '\[abc\]\{3\}' is given 2 times"),
        ({"regexes": ["a", "b", "c"]}, "too few for a task of 3 regexes; raise it"),
    ],
)
def test_tasks_that_contradict_each_other_are_refused(second: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        custom([LISTS[0], {**second, "mapping": LANGUAGES}])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task_id": 7}, "task 1 has task_id=7, .*; number tasks from 0"),
        ({"descriptions": ("a", "b")}, "task 1 has task_id=1, 2 descriptions, groups of"),
        ({"mapping": {}}, "and 0 mappings"),
        ({"instructions": ((),)}, r"groups of \[0\] instructions"),
    ],
)
def test_a_family_with_a_malformed_task_is_refused(changes: dict[str, Any], reason: str) -> None:
    first = Task(0, ("a",), (("a", "b"),), {"x": "y"})
    second = {"task_id": 1, "descriptions": ("c",), "instructions": (("c", "d"),), "mapping": {"x": "z"}} | changes
    with pytest.raises(ValueError, match=reason):
        TaskFamily((first, Task(**second)), "instruction", 0.5, 0)
    with pytest.raises(ValueError, match="needs two or more tasks"):
        TaskFamily((first,), "instruction", 0.5, 0)
