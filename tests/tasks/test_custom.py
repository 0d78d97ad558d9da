"""Task families that know no regexes: listed instructions, and a family of a user's own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL, Outcome
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast

from taskcluster.runs.folder import RunFolder
from taskcluster.tasks.custom import LISTED, custom_family
from taskcluster.tasks.family import Task, TaskFamily

Train = Callable[..., Outcome]

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
def mine(tmp_path: Path) -> Path:
    """mine/mine.py and mine/task/mine.yaml, a folder for --config-dir."""
    (tmp_path / "mine" / "task").mkdir(parents=True)
    (tmp_path / "mine" / "mine.py").write_text(CODE)
    (tmp_path / "mine" / "task" / "mine.yaml").write_text(CONFIG)
    return tmp_path / "mine"


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("place", ["mine/mine.py", "mine.py", "mine/__init__.py"])
def test_a_family_of_ones_own_trains_by_its_name(
    taskcluster_train: Train, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (mine / "mine.py").rename(tmp_path / place)
    monkeypatch.setattr(sys, "path", [*sys.path])
    outcome = taskcluster_train("--config-dir", "mine", *WORDS, "hydra.run.dir=run")
    sys.modules.pop("mine", None)
    assert outcome.exit_code == 0, outcome.err
    run = RunFolder(tmp_path / "run")
    assert [row["step"] for row in run.rows()] == [0, 2, 4, 6]
    assert all(0 <= row["val/accuracy"] <= 1 and "ari/val/layer_2" in row for row in run.rows())


@pytest.mark.usefixtures("undrawn")
def test_another_models_tokenizer_and_a_template_of_ones_own(
    taskcluster_train: Train, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x and y of several tokens, text between them, and a tokenizer from a folder."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    texts = [*CAPITALS, *CAPITALS.values(), *LANGUAGES.values()]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, vocab_size=300, min_frequency=1)
    PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer).save_pretrained(tmp_path / "tokenizer")
    template = "data.template={instruction} {x} ->{y}"
    outcome = taskcluster_train(
        "--config-dir", "mine", *WORDS, "data.tokenizer=tokenizer", template, "hydra.run.dir=run", "data.loss_on=y"
    )
    sys.modules.pop("mine", None)
    assert outcome.exit_code == 0, outcome.err
    assert [row["step"] for row in RunFolder(tmp_path / "run").rows()] == [0, 2, 4, 6]


@pytest.mark.lasting
@pytest.mark.slow
def test_every_process_of_a_multirun_finds_a_family_of_ones_own(mine: Path) -> None:
    """Two jobs side by side, in processes of joblib's; two processes train each."""
    side_by_side = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trainer=ddp", "seed=0,1"]
    command = [sys.executable, "-m", "taskcluster.train", "--config-dir", "mine", "-m", *WORDS, *side_by_side]
    ended = subprocess.run(
        [*command, "trainer.max_steps=2", "name=ours"], cwd=mine.parent, capture_output=True, text=True, env=os.environ
    )
    assert ended.returncode == 0, ended.stderr
    runs = sorted((mine.parent / "multirun" / "ours").rglob("metrics.jsonl"))
    assert [len(RunFolder(journal.parent).rows()) for journal in runs] == [2, 2]


def test_a_family_that_cannot_be_imported_is_refused_in_one_sentence(taskcluster_train: Train, mine: Path) -> None:
    (mine / "mine.py").unlink()
    outcome = taskcluster_train("--config-dir", "mine", *WORDS)
    assert outcome.exit_code == 2
    (line,) = outcome.err.splitlines()
    assert "task._target_='mine.relations' cannot be imported" in line


LISTS: list[dict[str, Any]] = [
    {"instructions": ["capital of", "main city of", "seat of government of"], "mapping": CAPITALS},
    {"instructions": ["language of", "tongue of"], "mapping": LANGUAGES},
]


def test_custom_tasks_may_list_their_instructions() -> None:
    family = custom_family(LISTS, 100, holdout="instruction", val_fraction=0.4, seed=0)
    assert [task.descriptions for task in family.tasks] == [(LISTED,), (LISTED,)]
    assert [task.instructions[0] for task in family.tasks] == [tuple(task["instructions"]) for task in LISTS]
    assert family.words
    split = family.split()
    assert {e.instruction for e in split["train"]} | {e.instruction for e in split["val"]} == {
        i for task in LISTS for i in task["instructions"]
    }
    assert {e.description for e in split["train"] if e.task_id == 1} == {1}


def test_listed_instructions_go_with_regexes() -> None:
    drawn = {"regexes": ["tongue (of|in)", "(language|speech) in"], "mapping": LANGUAGES}
    family = custom_family([LISTS[0], drawn], 4, holdout="instruction", val_fraction=0.4, seed=0)
    assert family.words
    assert sorted(family.tasks[1].instructions[0]) == ["tongue in", "tongue of"]
    assert {e.description for split in family.split().values() for e in split if e.task_id} == {1, 2}


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"instructions": ["main city of", "x"]}, "instruction 'main city of' belongs to tasks 0 and 1"),
        ({"regexes": ["(main|big) city of"]}, "instruction 'main city of' of task 0 matches the regex"),
        ({"instructions": ["tongue of", "tongue of"]}, "task 1 has the instruction 'tongue of' 2 times"),
        ({"instructions": []}, "at least 1 item"),
        ({"instructions": [""]}, "at least 1 character"),
        ({}, "give one of the two"),
        ({"instructions": ["a"], "regexes": ["b"]}, "give one of the two"),
    ],
)
def test_lists_that_contradict_each_other_are_refused(second: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        custom_family([LISTS[0], {**second, "mapping": LANGUAGES}], 2, holdout="instruction", val_fraction=0.4, seed=0)


def test_what_is_wrong_with_a_listed_task_is_said_in_one_sentence(taskcluster_train: Train) -> None:
    outcome = taskcluster_train("task=custom", "task.tasks=[{mapping:{a:b}},{instructions:[c],mapping:{a:c}}]")
    assert outcome.exit_code == 2
    (line,) = outcome.err.splitlines()
    assert "task.tasks.0={'mapping': {'a': 'b'}}: a task is named by regexes or by instructions" in line


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task_id": 7}, "task 1 of the family has task_id=7; number tasks from 0"),
        ({"descriptions": ("a", "b")}, "task 1 has 2 descriptions and 1 groups of instructions"),
        ({"mapping": {}}, "task 1 has an empty mapping"),
        ({"instructions": ((),)}, "task 1 has a description without instructions"),
        ({"instructions": (("c", "d", "c"),)}, "task 1 has the instruction 'c' 2 times"),
    ],
)
def test_tasks_that_are_not_as_they_should_be_are_refused(changes: dict[str, Any], reason: str) -> None:
    first = Task(0, ("a",), (("a", "b"),), {"x": "y"})
    second = {"task_id": 1, "descriptions": ("c",), "instructions": (("c", "d"),), "mapping": {"x": "z"}} | changes
    with pytest.raises(ValueError, match=reason):
        TaskFamily((first, Task(**second)), "instruction", 0.5, 0)


def test_a_family_of_one_task_is_refused() -> None:
    with pytest.raises(ValueError, match="the family has 1 task;"):
        TaskFamily((Task(0, ("a",), (("a", "b"),), {"x": "y"}),), "instruction", 0.5, 0)


def drawn(*regexes: list[str], n: int) -> TaskFamily:
    tasks = [{"regexes": own, "mapping": {"x": str(k)}} for k, own in enumerate(regexes)]
    return custom_family(tasks, n, holdout="instruction", val_fraction=0.4, seed=0)


def test_strings_that_draws_seldom_give_are_found() -> None:
    """Draws give m once in 16,384."""
    rare = "".join(f"(?:{symbol}|" for symbol in "abcdefghijklmn") + "m" + ")" * 14
    family = drawn([rare], ["[xyz]{9}"], n=14)
    assert {*family.tasks[0].instructions[0]} == {*"abcdefghijklmn"}
    with pytest.raises(ValueError, match=r"gives only 14 of 15 instructions .*its language has 14 strings"):
        drawn([rare], ["[xyz]{9}"], n=15)


def test_long_repeats_are_drawn_alone() -> None:
    first, second = drawn(["[pq]{1,200}"], ["a[pq]{120}", "[pq]{50,150}b"], n=40).tasks
    assert max(map(len, first.instructions[0])) > 150
    assert {len(i) for i in second.instructions[0]} == {121}
    assert max(map(len, second.instructions[1])) > 110


@pytest.mark.parametrize(
    ("holdout", "fraction", "instructions", "reason"),
    [
        ("instruction", 0.5, ["a"], "holdout='instruction' needs two instructions a task, and task 1 has 1;"),
        ("instruction", 0.1, ["a", "b"], "without validation, as it holds out none of the 2 instructions .*raise it"),
        ("instruction", 0.9, ["a", "b"], "without training, as it holds out too many of the 2 instr.* lower it"),
        ("pair", 0.9, ["a", "b"], "without training, as it holds out too many of the 6 pairs of task .*; lower it"),
        ("x", 0.1, ["a", "b"], "without validation, as it holds out none of the 3 inputs of task 0; raise it"),
        ("x", 0.9, ["a", "b"], "without training, as it holds out too many of the 3 inputs of task 0; lower it"),
    ],
)
def test_why_a_task_cannot_be_divided_is_named(holdout: Any, fraction: float, instructions: Any, reason: str) -> None:
    lists = [{"instructions": ["c", "d"], "mapping": CAPITALS}, {"instructions": instructions, "mapping": LANGUAGES}]
    with pytest.raises(ValueError, match=reason):
        custom_family(lists, 9, holdout=holdout, val_fraction=fraction, seed=0)


@pytest.mark.parametrize(
    ("regexes", "n", "reason"),
    [
        ((["a{2000}"], ["b{1,2000}"]), 100, r"'a\{2000\}' gives only 1 of 100 .*its language has 1 string\)"),
        ((["a{0}"], ["b{1,9}"]), 2, r"'a\{0\}' gives only 0 of 2 .*its language has 0 strings"),
        ((["[ab]{1,200}"], ["[ab]{1,201}"]), 2, r"gives only 0 of 2 .*400 were drawn.*overlap less"),
        ((["[abc]{3}"], ["[abc]{3}"]), 2, r"regex '\[abc\]\{3\}' is given 2 times"),
        ((["[abc]{3}", "d", "e"], ["f{1,9}"]), 2, "too few for a task of 3 regexes; raise it to 3"),
    ],
)
def test_languages_too_small_are_refused_soon(regexes: Any, n: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        drawn(*regexes, n=n)
