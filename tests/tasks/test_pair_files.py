"""Files of pairs: what is written is read, headers are named, and what cannot be used is said with file and line."""

import csv
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskcluster.tasks.files import read_pairs

ODD = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e \r\n,\t\"';éab"
TEXTS = st.text(st.sampled_from(ODD) | st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
PAIRS = st.lists(st.tuples(TEXTS.map(str.strip), TEXTS.map(str.strip)), min_size=1).filter(
    lambda pairs: all(x and y for x, y in pairs)
)


def write(file: Path, pairs: list[tuple[str, str]], names: tuple[str, str] = ("input", "output")) -> None:
    entries = [dict(zip(names, pair, strict=True)) for pair in pairs]
    with file.open("w", encoding="utf-8", newline="") as stream:
        if file.suffix == ".json":
            json.dump(entries, stream, ensure_ascii=False)
        elif file.suffix == ".jsonl":
            stream.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        else:
            csv.writer(stream, delimiter="\t" if file.suffix == ".tsv" else ",").writerows([names, *pairs])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(PAIRS, st.sampled_from(["json", "jsonl", "csv", "tsv"]), st.booleans())
def test_pairs_that_are_written_are_read(tmp_path: Path, pairs: list[tuple[str, str]], ending: str, own: bool) -> None:
    names = ("word", "Translation ") if own and ending in ("csv", "tsv") else ("word", "translation")
    file = tmp_path / f"task.{ending}"
    write(file, pairs, names if own else ("input", "output"))
    assert read_pairs(file, ["word", "translation"] if own else None) == pairs


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("t.csv", "input,output\na,b\n", None),
        ("t.csv", "a,b\n", None),
        ("t.csv", "\n\ninput,output\na,b\n", None),
        ("t.csv", "  \r\nInput , OUTPUT\r\n\r\na,b", None),
        ("t.csv", "\ufeffinput,output\na,b\n", None),
        ("t.csv", '\ufeff"input","output"\ra,b\r', None),
        ("t.csv", "output,input\nb,a\n", None),
        ("t.csv", "id,output,note,input\n1,b,,a\n", None),
        ("t.csv", "word,translation\na,b\n", ["word", "translation"]),
        ("t.csv", "translation,word\nb,a\n", ["word", "translation"]),
        ("t.csv", "n,word,kind,Translation\n1,a,noun,b\n", ["Word", "translation"]),
        ("t.tsv", "output\tinput\nb\ta\n", None),
        ("t.CSV", "a,b\n", None),
        ("t.json", '[{"word": "a", "translation": "b", "n": 1}]', ["word", "translation"]),
        ("t.json", ' \r\n[\t{"output": "b", "input": "a"}\n]\n', None),
        ("t.jsonl", '\r\n{"fr": "b", "en": "a"}\r\n', ["en", "fr"]),
    ],
)
def test_columns_are_found_by_their_names(tmp_path: Path, name: str, text: str, columns: list[str] | None) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert read_pairs(tmp_path / name, columns) == [("a", "b")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "word,translation\ndog,chien\n"),
        ("t.csv", "\nSource, Target\ndog,chien\n"),
        ("t.tsv", "question\tanswer\ndog\tchien\n"),
        ("t.csv", "input,target\ndog,chien\n"),
        ("country-capital.csv", "countries,capital\nFrance,Paris\n"),
        ("weight.csv", "animal,weight\ndog,heavy\n"),
        ("t.csv", "animal,kilograms\ndog,30\ncat,4.5\nelk,-600\n"),
        ("t.csv", "animal,initial\ndog,d\ncat,c\nelk,e\n"),
        ("t.csv", "Animal,Chien\ndog,hund\ncat,katze\nelk,Elch\n"),
    ],
)
def test_a_first_line_like_a_header_is_refused_with_both_ways_out(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"{name}, line \d: .* a header; .* task.columns=\[.* a line with") as refused:
        read_pairs(file)
    assert len(str(refused.value).splitlines()) == 1
    delimiter = "\t" if name.endswith("tsv") else ","
    first, *others = [tuple(cell.strip() for cell in line.split(delimiter)) for line in text.split("\n") if line]
    assert read_pairs(file, first) == others
    file.write_text(f"input{delimiter}output\n{text}")
    assert read_pairs(file) == [first, *others]


@pytest.mark.parametrize(
    "text",
    [
        "left,right\nup,down\n",
        "dog,chien\ncat,chat\nelk,cerf\nox,boeuf\n",
        "Paris,France\nRome,Italy\nBern,CH\nOslo,N\n",
    ],
)
def test_pairs_in_a_first_line_are_pairs(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    assert len(read_pairs(tmp_path / "t.csv")) == text.count("\n")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("t.csv", "input,output\na,b\n\n\nc\n", "line 5: has 1 column (['c']), not 2"),
        ("t.csv", "a,b,c\n", "line 1: has 3 columns"),
        ("t.csv", "id,input,output\n1,a,b\n2,c\n", "line 3: has 2 columns (['2', 'c']), not 3"),
        ("t.csv", "input,output,Input\n1,a,b\n", "line 1: names the column 'input' 2 times"),
        ("t.csv", 'a,b\n"c\nc",d\n"e,f\n', "line 4: is not readable"),
        ("t.csv", 'a,b\r"c"d,e\r', "line 2: is not readable"),
        ("t.csv", "a,b\r\nc,d\re,f\n,g", "line 4: input or output is empty"),
        ("t.csv", "a,b\0\n", "line 1: 'b\\x00' holds a NUL"),
        ("t.jsonl", '{"input": "a", "output": "\\ud800"}', "line 1: '\\ud800' holds a NUL or half"),
        ("t.json", '[\n{"input": ' + "[" * 100_000, "line 2: is nested too deeply"),
        ("t.jsonl", "[" * 100_000, "line 1: is nested too deeply"),
        ("t.json", '[\r\n\r\n{"input": "a", "output": ' + "9" * 5_000 + "}]", "line 3: has a number of 5,000 digits"),
        ("t.jsonl", '{"input": "a", "output": NaN}', "line 1: has NaN, which is not JSON"),
        ("t.json", '[{"input": "a", "output": "b"},\n{"input": -Infinity, "output": "b"}]', "line 2: has -Infinity"),
        ("t.jsonl", '\n{"input": "a", "input": "c", "output": "b"}', "line 2: has the key 'input' 2 times"),
        ("t.json", '[{"input": "a", "output": "b"},\n\n]', "line 3: is not JSON"),
        ("t.json", '[{"input": "a", "output": "b"}\n{"input": "a", "output": "b"}]', "line 2: is not JSON"),
        ("t.json", '[{"input": "a", "output": "b"}', "line 1: is not JSON"),
        ("t.json", '[{"input": "a", "output": "b"}]\n[]', "line 2: has more text after the list"),
        ("t.json", "", "line 1: is not a list"),
        ("t.jsonl", '{"input": "a", "output": "b"} {}', "line 1: is not JSON (more than one object)"),
        ("t.jsonl", '{"input": "a", "output": {"b": ' + '"c"}}', "line 1: {'b': 'c'} is not a text"),
        ("t.csv", "a,b".encode("utf-16"), "t.csv is not UTF-8"),
        ("t.csv", "a,b".encode("utf-16-le"), "line 1: 'a\\x00' holds a NUL"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_with_file_and_line(
    tmp_path: Path, name: str, content: str | bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=name) as refused:
        read_pairs(tmp_path / name)
    assert reason in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 400


def test_numbers_are_read_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"input": 1.10, "output": 12}\n{"input": 1e999, "output": -0.5}')
    assert read_pairs(tmp_path / "t.jsonl") == [("1.10", "12"), ("1e999", "-0.5")]


def test_named_columns_that_a_table_lacks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\ndog,chien\n")
    with pytest.raises(ValueError, match=r"t\.csv, line 2: .* does not name columns=\['en', 'fr'\]"):
        read_pairs(tmp_path / "t.csv", ["en", "fr"])


def test_folders_and_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere")
    (tmp_path / "secret.csv").write_text("a,b")
    (tmp_path / "secret.csv").chmod(0)
    for name in ["folder", "gone", *["secret"] * (os.geteuid() != 0)]:
        with pytest.raises(ValueError, match=rf"{name}\.csv cannot be read \("):
            read_pairs(tmp_path / f"{name}.csv")
