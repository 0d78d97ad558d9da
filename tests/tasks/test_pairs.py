"""Tasks from files of pairs: four formats, the choice of pairs, and errors that name the line."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import taskcluster
from taskcluster.operations.command_line.cli import composed
from taskcluster.tasks.family import TaskFamily
from taskcluster.tasks.pairs import pairs_family, read_pairs

EXAMPLES = Path(taskcluster.__file__).parents[1] / "docs" / "examples" / "pairs"
PAIRS = [("dog", "chien, ou chienne"), ('the "big" cat', "chat"), ("élan", "elk\\moose"), ("a", "1.5")]
FEW_SHOT = {"describe": "demonstrations", "n_demonstrations": 1, "n_sets": 2}


def family(folder: Path, **changes: Any) -> TaskFamily:
    """A family from conf/task/pairs.yaml with some values changed; all pairs, and none of them to demonstrate."""
    some = {"path": str(folder), "n_pairs": None, "describe": "instruction"}
    values = composed("task=pairs")["task"] | some | changes
    del values["_target_"]
    return pairs_family(**values)


def write(file: Path, pairs: list[tuple[str, str]], names: tuple[str, str] = ("input", "output")) -> None:
    entries = [dict(zip(names, pair, strict=True)) for pair in pairs]
    with file.open("w", encoding="utf-8", newline="") as stream:
        if file.suffix == ".json":
            json.dump(entries, stream, ensure_ascii=False)
        elif file.suffix == ".jsonl":
            stream.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        else:
            csv.writer(stream, delimiter="\t" if file.suffix == ".tsv" else ",").writerows([names, *pairs])


TEXTS = st.text(st.sampled_from("\u2028\x85\x0b\x1c \r\n,\t\"';éab") | st.characters(codec="utf-8"), min_size=1)
MANY = st.lists(st.tuples(*[TEXTS.map(str.strip).filter(bool)] * 2), min_size=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(MANY, st.sampled_from(["json", "jsonl", "csv", "tsv"]), st.booleans())
def test_pairs_are_read_as_they_were_written(
    tmp_path: Path, pairs: list[tuple[str, str]], ending: str, named: bool
) -> None:
    names = ("word", "translation") if named else ("input", "output")
    write(tmp_path / f"task.{ending}", pairs, names)
    assert read_pairs(tmp_path / f"task.{ending}", names if named else None) == pairs


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("t.csv", "a,b\n", None),
        ("t.csv", "  \r\nInput , OUTPUT\r\n\r\na,b", None),
        ("t.csv", '\ufeff"input","output"\ra,b\r', None),
        ("t.csv", "id,output,note,input\n1,b,,a\n", None),
        ("t.csv", "n,word,kind,Translation\n1,a,noun,b\n", ["Word", "translation"]),
        ("t.tsv", "output\tinput\nb\ta\n", None),
        ("t.CSV", "a,b\n", None),
        ("t.json", '[{"word": "a", "translation": "b", "n": 1}]', ["word", "translation"]),
        ("t.jsonl", '\r\n{"fr": "b", "en": "a"}\r\n', ["en", "fr"]),
    ],
)
def test_columns_are_found_by_their_names(tmp_path: Path, name: str, text: str, columns: list[str] | None) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert read_pairs(tmp_path / name, columns) == [("a", "b")]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("t.csv", "word,translation\ndog,chien\n", "line 1: ['word', 'translation'] looks like a header; name two"),
        ("t.tsv", "\nSource\tTarget\ndog\tchien\n", "line 2: ['Source', 'Target'] looks like a header"),
        ("t.csv", "input,output\na,b\n\n\nc\n", "line 5: has 1 columns (['c']), not 2"),
        ("t.csv", "a,b,c\n", "line 1: has 3 columns"),
        ("t.csv", 'a,b\n"c\nc",d\n"e,f\n', "unexpected end of data"),
        ("t.csv", "a,b\r\nc,d\re,f\n,g", "line 4: input and output must be texts that are not empty"),
        ("t.csv", "a,b".encode("utf-16"), "save it as UTF-8"),
        ("t.jsonl", '{"input": "a", "output": "b"} {}', "line 1: is not JSON (Extra data)"),
        ("t.jsonl", '{"input": "a", "output": {"b": "c"}}', "line 1: input and output must be texts"),
        ("t.jsonl", '\n{"input": "a"}', "line 2: {'input': 'a'} has no input and output"),
        ("t.json", '[{"input": "a", "output": "b"}\n{}]', "Expecting ',' delimiter: line 2"),
        ("t.json", '{"a": "b"}', "entry 1: 'a' has no input and output"),
    ],
)
def test_a_mistake_in_a_file_is_one_sentence(tmp_path: Path, name: str, content: str | bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=rf"^path='.*{name}' cannot be read \(.*\); correct it") as refused:
        read_pairs(tmp_path / name)
    assert reason in str(refused.value)
    assert len(str(refused.value)) < 400


def test_numbers_are_read_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"input": 1.10, "output": 12}\n{"input": 1e999, "output": -0.5}')
    assert read_pairs(tmp_path / "t.jsonl") == [("1.10", "12"), ("1e999", "-0.5")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "first_letter.json", [(x, x[0]) for x, _ in PAIRS])
    write(tmp_path / "to-french.json", PAIRS)
    return tmp_path


def test_the_first_output_of_an_input_counts_and_is_logged_and_long_pairs_are_left_out(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "more.csv").write_text("a,first\nb,1\na,second\nabcdefg,1\nc,abcdefg\n")
    assert family(folder, max_length=6, tasks=["more", "first_letter"]).tasks[0].mapping == {"b": "1", "a": "first"}
    assert caplog.messages == [
        "more.csv has several outputs for 1 of its inputs, such as 'a'; the first is used ('first')"
    ]


def test_tasks_are_chosen_by_name_and_pairs_by_seed() -> None:
    chosen = family(EXAMPLES, tasks=["english-spanish", "english-french"], n_pairs=9, seed=1)
    first, second = chosen.tasks
    assert chosen.values["task"] == ["english-spanish", "english-french"]
    assert len(first.mapping) == 9
    assert first.mapping.keys() == second.mapping.keys()
    assert first.mapping != second.mapping


def test_demonstrated_pairs_are_never_queried() -> None:
    made = family(EXAMPLES, describe="demonstrations", n_pool=6, n_sets=9)
    asked = {x for task in made.tasks for x in task.mapping}
    assert len(asked) == 32 - 6
    for task in made.tasks:
        shown = {line[3:] for text in task.descriptions for line in text.splitlines() if line.startswith("Q: ")}
        assert len(shown) <= 6
        assert not shown & asked


def test_a_file_without_templates_is_described_by_its_name(folder: Path) -> None:
    templates = ["the French for {x} is", "{x}, in French:"]
    first, second = family(folder, templates={"to-french": templates}, val_fraction=0.5).tasks
    assert len(first.descriptions) >= 5
    assert "The first letter of {x} is" in {i for group in first.instructions for i in group}
    assert second.descriptions == (*templates,)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"path": "nowhere"}, "path='nowhere' holds no file of a task; give a folder with two or more files"),
        ({"path": None}, "path=None: give the folder"),
        ({"tasks": ["first_letter", "to-frensh"]}, "tasks='to-frensh' is not a file of .*did you mean 'to-french'"),
        ({"tasks": ["to-french", "to-french"]}, "needs two or more tasks"),
        (
            {"columns": ["word", "translation"]},
            "first_letter.json' cannot be read .entry 1: .* no word and translation",
        ),
        ({"max_length": 1, "tasks": ["to-french", "first_letter"]}, "to-french.json' has no pairs with max_length=1"),
        ({"n_pairs": 5}, "n_pairs=5 leaves task first_letter with 4 pairs to query, of 4 in its file"),
        ({**FEW_SHOT, "n_pool": 4}, "leaves task first_letter with 0 pairs .* because n_pool=4 inputs"),
        ({**FEW_SHOT, "n_pool": 2, "n_sets": 3}, "n_sets=3 exceeds the 2 sets of n_demonstrations=1"),
    ],
)
def test_mistakes_are_refused(folder: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        family(folder, **changes)


def test_two_files_of_one_name_are_refused(folder: Path) -> None:
    write(folder / "to-french.csv", PAIRS)
    with pytest.raises(ValueError, match=r"first_letter\.json, to-french\.csv, to-french\.json; .* of different names"):
        family(folder)


def test_a_header_is_refused_before_training_and_named_by_a_key(taskcluster_train: Any, tmp_path: Path) -> None:
    for language, word in (("de", "Hund"), ("fr", "chien")):
        (tmp_path / f"{language}.csv").write_text(f"word,translation\ndog,{word}\ncat,{word[:3]}\n")
    outcome: Outcome = taskcluster_train("task=pairs", f"task.path={tmp_path}")
    assert outcome.exit_code == 2
    (line,) = outcome.err.splitlines()
    assert f"task.path='{tmp_path}/de.csv' cannot be read (line 1: ['word', 'translation'] looks like a header" in line
    outcome = taskcluster_train("task=pairs", f"task.path={tmp_path}", "task.columns=[word,translation]")
    assert "task.n_pairs=40 leaves task de with 0 pairs" in outcome.err
