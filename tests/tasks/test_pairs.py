"""Tasks from files of pairs: four formats, what is chosen from them, and the line that is wrong."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome

import taskcluster
from taskcluster.cli import composed
from taskcluster.tasks.family import TaskFamily
from taskcluster.tasks.pairs import pairs_family

EXAMPLES = Path(taskcluster.__file__).parents[1] / "docs" / "examples" / "pairs"
PAIRS = {"dog": "chien, ou chienne", 'the "big" cat': "chat", "élan": "elk\\moose", "a": "1.5"}

SHOW = {"describe": "demonstrations", "n_demonstrations": 1, "n_sets": 2}


def family(folder: Path, **changes: Any) -> TaskFamily:
    """A family from conf/task/pairs.yaml with some values changed; all pairs, and none of them to demonstrate."""
    some = {"path": str(folder), "n_pairs": None, "describe": "instruction"}
    values = composed("task=pairs")["task"] | some | changes
    del values["_target_"]
    return pairs_family(**values)


def write(folder: Path, name: str, pairs: dict[str, str], header: bool = False) -> None:
    """The pairs in the format that the name's ending says."""
    file, entries = folder / name, [{"input": x, "output": y} for x, y in pairs.items()]
    if file.suffix == ".json":
        file.write_text(json.dumps(entries, indent=1))
    elif file.suffix == ".jsonl":
        file.write_text("\n\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n")
    elif file.suffix == ".tsv":
        lines = ["input\toutput"] * header + [f"{x}\t{y}" for x, y in pairs.items()]
        file.write_text("\n".join(lines))
    else:
        with file.open("w", newline="") as stream:
            csv.writer(stream).writerows([["Input", "Output"]] * header + [*pairs.items()])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tasks with four inputs in common."""
    for name, pairs in (("first_letter", {x: x[0] for x in PAIRS}), ("to-french", PAIRS)):
        write(tmp_path, f"{name}.json", pairs)
    return tmp_path


@pytest.mark.parametrize("header", [False, True])
def test_what_is_written_in_any_format_is_read(tmp_path: Path, header: bool) -> None:
    for ending in ("json", "jsonl", "csv", "tsv"):
        write(tmp_path, f"in_{ending}.{ending}", PAIRS, header)
    (tmp_path / "README.md").write_text("not a task")
    read = family(tmp_path)
    assert [task.name for task in read.tasks] == ["in_csv", "in_json", "in_jsonl", "in_tsv"]
    assert all(task.mapping == PAIRS for task in read.tasks)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (
            "bad.json",
            '[\n{"input": "a", "output": "b"},\n{"input": "c"}\n]',
            "bad.json, line 3: {'input': 'c'} has no in",
        ),
        ("bad.json", '[{"input": "a", "output": "b"},\n{"input": "c" "output": "d"}]', "bad.json, line 2: is not JSON"),
        ("bad.json", '{"input": "a", "output": "b"}', "bad.json, line 1: is not a list"),
        ("bad.json", '[\n{"input": "a", "output": ["b", "c"]}]', "bad.json, line 2: ['b', 'c'] is not a text"),
        ("bad.json", '[\n\n{"input": "a", "output": null}]', "bad.json, line 3: None is not a text"),
        ("bad.jsonl", '{"input": "a", "output": "b"}\n{"input": "a"', "bad.jsonl, line 2: is not JSON"),
        ("bad.jsonl", '{"input": "a", "output": "b"}\n["a"]', "bad.jsonl, line 2: ['a'] has no input and output"),
        ("bad.csv", "input,output\na,b\nc,d,e\n", "bad.csv, line 3: has 3 columns"),
        ("bad.csv", 'a,b\nc,"d\n', "bad.csv, line 2: is not readable"),
        ("bad.tsv", "a\tb\nc d\n", "bad.tsv, line 2: has 1 column (['c d']), not 2"),
        ("bad.tsv", "a\tb\nc\t \n", "bad.tsv, line 2: input or output is empty"),
        ("bad.csv", "", "no pairs in bad.csv"),
    ],
)
def test_an_unusable_line_is_named(folder: Path, name: str, text: str, reason: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match="path=") as refused:
        family(folder)
    assert reason in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_another_encoding_is_named(folder: Path) -> None:
    (folder / "bad.csv").write_bytes("élan,elk".encode("latin-1"))
    with pytest.raises(ValueError, match=r"bad\.csv is not UTF-8"):
        family(folder)


def test_the_first_output_of_an_input_counts_and_long_pairs_are_left_out(folder: Path) -> None:
    (folder / "more.csv").write_text("a,first\nb,1\na,second\nabcdefg,1\nc,abcdefg\n")
    assert family(folder, max_length=6, tasks=["more", "first_letter"]).tasks[0].mapping == {"b": "1", "a": "first"}
    with pytest.raises(ValueError, match=r"max_length=1 leaves no pair of to-french\.json"):
        family(folder, max_length=1, tasks=["first_letter", "to-french"])


def test_inputs_with_several_outputs_are_said_once_a_file(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "more.csv").write_text("dog,1\ncat,2\ndog,3\ncat,2\ndog,4\n")
    family(folder)
    (message,) = (said for said in caplog.messages if said.startswith("more.csv"))
    assert message == "more.csv gives several outputs to 1 of its inputs, such as 'dog'; the first is used ('1')"


def test_tasks_are_chosen_by_name_and_pairs_by_seed() -> None:
    first, second = family(EXAMPLES, tasks=["english-spanish", "english-french"], n_pairs=9, seed=1).tasks
    assert (first.name, second.name) == ("english-spanish", "english-french")
    assert len(first.mapping) == 9
    assert first.mapping.keys() == second.mapping.keys()
    assert first.mapping != second.mapping
    some = {"n_pairs": 9, "describe": "demonstrations"}
    assert family(EXAMPLES, **some, seed=1).fingerprint() == family(EXAMPLES, **some, seed=1).fingerprint()
    assert family(EXAMPLES, **some, seed=1).fingerprint() != family(EXAMPLES, **some, seed=2).fingerprint()


def test_no_task_is_asked_what_a_demonstration_shows() -> None:
    made = family(EXAMPLES, describe="demonstrations", n_pool=6, n_sets=9)
    asked = {x for task in made.tasks for x in task.mapping}
    assert len(asked) == 32 - 6
    for task in made.tasks:
        shown = {line[3:] for text in task.descriptions for line in text.splitlines() if line.startswith("Q: ")}
        assert len(shown) <= 6
        assert not shown & asked


def test_a_file_without_templates_is_told_by_its_name(folder: Path) -> None:
    own = ["the French for {x} is", "{x}, in French:"]
    first, second = family(folder, templates={"to-french": own}, val_fraction=0.5).tasks
    assert len(first.descriptions) >= 5
    assert "The first letter of {x} is" in {i for group in first.instructions for i in group}
    assert second.descriptions == (*own,)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"path": "nowhere"}, "path='nowhere' is not a folder"),
        ({"path": None}, "path=None: give the folder"),
        ({"tasks": ["first_letter", "to-frensh"]}, "tasks='to-frensh' is not a file of .*did you mean 'to-french'"),
        ({"tasks": ["to-french", "to-french"]}, "names one twice"),
        ({"columns": ["a", "a"]}, "columns=.* names one column twice"),
        (
            {"columns": ["word", "translation"]},
            "first_letter.json, line 2: .* has no word and translation",
        ),
        ({"n_pairs": 5}, "n_pairs=5 leaves task first_letter with 4 pairs; lower it to 4$"),
        ({"n_pairs": 4, "max_length": 6}, "with 1 pair; lower it to 1, or raise max_length=6"),
        ({**SHOW, "n_pool": 4}, "n_pool=4 leaves no pair of task first_letter to ask about.*lower it$"),
        ({**SHOW, "n_pool": 4, "n_pairs": 1}, "^n_pool=4 leaves no pair of task first"),
        (
            {**SHOW, "n_pool": 3, "n_pairs": 2},
            r"n_pairs=2 leaves .* with 1 pair .*\(n_pool=3\); lower it to 1 or",
        ),
        ({**SHOW, "n_pool": 2, "n_demonstrations": 3}, "n_demonstrations=3 exceeds the 2 pairs to show; lower it to 2"),
        ({**SHOW, "n_pool": 2, "n_sets": 3}, "n_sets=3 exceeds the 2 sets of n_demonstrations=1 from n_pool=2"),
        (
            {**SHOW, "n_pool": 2, "templates": {"to-french": ["{x}"]}},
            "demonstrations' does not use templates",
        ),
        (
            {
                "describe": "demonstrations",
                "n_pool": 2,
                "n_demonstrations": 1,
                "n_sets": 3,
                "disjoint_demonstrations": True,
            }
            | {"n_pairs": 1},
            "disjoint_demonstrations=True needs 3 pairs to show for n_sets=3 of 1, and there are 2; raise n_pool to 3",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(folder: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        family(folder, **changes)


def test_two_files_of_one_name_are_refused(folder: Path) -> None:
    write(folder, "to-french.csv", PAIRS)
    with pytest.raises(ValueError, match=r"to-french\.csv and to-french\.json, two of one name"):
        family(folder)


def test_one_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "alone.tsv", PAIRS)
    with pytest.raises(ValueError, match="holds 1 file of"):
        family(tmp_path)


def test_a_header_is_refused_before_training_and_named_by_a_key(taskcluster_train: Any, tmp_path: Path) -> None:
    for language, word in (("de", "Hund"), ("fr", "chien")):
        (tmp_path / f"{language}.csv").write_text(f"word,translation\ndog,{word}\ncat,{word[:3]}\n")
    said = "de.csv, line 1: ['word', 'translation'] looks like a header"
    outcome: Outcome = taskcluster_train("task=pairs", f"task.path={tmp_path}")
    assert outcome.exit_code == 2
    assert said in outcome.err
    outcome = taskcluster_train("task=pairs", f"task.path={tmp_path}", "task.columns=[word,translation]")
    (line,) = outcome.err.splitlines()
    assert "task.n_pool=10 leaves no pair of task de to ask about" in line


def test_a_bad_line_is_said_in_one_sentence(taskcluster_train: Any, folder: Path) -> None:
    (folder / "bad.csv").write_text("a,b,c\n")
    outcome: Outcome = taskcluster_train("task=pairs", f"task.path={folder}")
    assert outcome.exit_code == 2
    (line,) = outcome.err.splitlines()
    assert f"task.path='{folder}': bad.csv, line 1: has 3 columns" in line
