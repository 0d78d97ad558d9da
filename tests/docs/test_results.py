"""The tables of results on the pages are those of the kept files, and the text around them quotes no other numbers."""

import re
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import pytest
from planted import config, plant

import taskcluster
from taskcluster.validation import UserError

ROOT = Path(taskcluster.__file__).parents[1]
sys.path.append(str(ROOT / "docs"))
import tables  # noqa: E402
from sweeps import depths  # noqa: E402

EXPERIMENTS = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
PAGES = [page for page in tables.pages() if "<!-- results: " in page.read_text()]
NUMBER = r"(?<![\w.])-?\d+\.\d+(?![\w.]*\d)|\d+(?= %)"
NOT_TEXT = (
    r"^```.*?^```",
    r"^<!-- results: .*\n(?:\|.*\n)*",
    r"`[^`]*`",
    r"\]\([^)]*\)",  # where a link leads
    r"<[^>]*>",
)
# What the text of a page quotes that is not of the kept runs.
OTHERS = {
    "README.md": {
        *("3.11", "0.95"),  # a version; the threshold of a benchmark
        *("5.2", "5.4", "3.1"),  # benchmarks/README.md
        *("0.94", "97"),  # docs/found.md
    },
    "in_context.md": {"0.45", "0.62"},  # one seed, from the GGUF file
    "measures.md": {"2.3", "1.4"},  # seconds; a setting, memory
    "pretrained.md": {
        *("2.0", "4.9", "1.7", "0.64"),  # a license; minutes; bfloat16; GiB
        *("0.50", "0.994", "0.915"),  # bitsandbytes
    },
    "your_model.md": {"97.5"},  # the quantile of the level of chance
    "results.md": {"39", "0.973", "0.929"},  # benchmarks/optimum.py
}


def names(text: str) -> list[str]:
    """The files that a page names: one for each table, one or several for its text."""
    named = re.findall(r"^<!-- (?:results|numbers): ([\w ]+)(?:, rows [\d ]+)? -->$", text, re.MULTILINE)
    return " ".join(named).split()


def quoted(text: str) -> Iterator[str]:
    """The numbers with a decimal point, and the percentages, of the text of a page without its tables of results."""
    for pattern in NOT_TEXT:
        text = re.sub(pattern, " ", text, flags=re.DOTALL | re.MULTILINE if "```" in pattern else re.MULTILINE)
    return (found[0] for found in re.finditer(NUMBER, text))


def kept(files: Sequence[str], pending: str = "") -> set[str]:
    """Every number of files, also rounded to fewer digits, and fractions as percentages."""
    cells = [cell for file in files for row in tables.read(file) for cell in row]
    numbers = {number for cell in [*cells, pending] for number in re.findall(r"-?\d+(?:\.\d+)?", cell)}
    fewer = {f"{float(n):z.{digits}f}" for n in numbers for digits in range(1, len(n.partition(".")[2]))}
    return numbers | fewer | {f"{100 * float(n):.0f}" for n in numbers | fewer if "." in n}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_rendering_again_gives_the_page(page: Path) -> None:
    assert tables.rendered(page.read_text()) == page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_text_quotes_only_numbers_of_the_files_that_the_page_names(page: Path) -> None:
    text = page.read_text()
    pending = " ".join(re.findall(r"^<!-- pending results: .*\n((?:\|.*\n)*)", text, re.MULTILINE))
    allowed = kept(names(text), pending) | OTHERS.get(page.name, set()) | {"95"}  # 95 % intervals
    assert [n for n in quoted(text) if n not in allowed] == []


def test_every_named_file_is_there_and_every_file_is_named() -> None:
    named = {*chain.from_iterable(names(page.read_text()) for page in tables.pages())}
    assert named == {file.stem for file in tables.FOLDER.glob("*.csv")}


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda file: file.stem)
def test_what_an_experiment_expects_leads_to_a_page_instead_of_repeating_its_numbers(experiment: Path) -> None:
    comments = "\n".join(line for line in experiment.read_text().splitlines() if line.startswith("# "))
    expected = comments[comments.index("Expect") :]
    assert [*quoted(expected)] == []
    assert [page for page in re.findall(r"docs/\w+\.md", expected) if (ROOT / page).is_file()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    monkeypatch.setattr(tables, "IMAGES", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("content", "table"),
    [
        ("layer,ARI\n0,0.1\n", "| layer | ARI |\n|---|---|\n| 0 | 0.1 |\n"),
        (',"a, b"\n|x| < 1,\n', "| | a, b |\n|---|---|\n| &#124;x&#124; &lt; 1 | |\n"),
        ("a\n", "| a |\n|---|\n"),
    ],
)
@pytest.mark.parametrize("before", ["", "| old |\n| --- |\n| 7 |\n"])
def test_a_page_has_the_table_of_the_file(folder: Path, content: str, table: str, before: str) -> None:
    (folder / "any.csv").write_text(content)
    page = "# Title\n\n<!-- results: any -->\n{}\nText, and | 0.5 |\n"
    assert tables.rendered(page.format(before)) == page.format(table)


def test_a_page_may_show_some_rows_of_a_file(folder: Path) -> None:
    (folder / "any.csv").write_text("layer,ARI\n0,0.1\n1,0.2\n2,0.3\n")
    page = "<!-- results: any, rows 1 3 -->\n{}"
    assert tables.rendered(page.format("")) == page.format("| layer | ARI |\n|---|---|\n| 0 | 0.1 |\n| 2 | 0.3 |\n")
    assert names(page) == ["any"]


def test_a_missing_file_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match="other\\.csv, which a page names, is missing"):
        tables.rendered("<!-- results: other -->\n")


def sweep(root: Path, *missing: int) -> None:
    """Three depths, five seeds, whose ARI at the end is 0.6 with 2 layers, 0.7 with 4 and 0.8 with 6, in the mean."""
    others = {"data": {"loss_on": "sequence"}, "task": {"shuffle_outputs": False}}
    for n_layer, ari in ((2, 0.6), (4, 0.7), (6, 0.8)):
        for seed in {*range(5)} - {*missing}:
            of_seed = ari + (seed - 2) / 100
            path = root / "depths" / f"folder={9 - n_layer}" / f"seed={seed}"  # the deepest is found first
            plant(path, of_seed, config(seed, n_layer, **others), kmeans=(-0.01, 0.01))


def test_files_are_written_from_the_runs_of_a_sweep(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(folder / "runs")
    monkeypatch.setattr(tables, "SWEEPS", {"depths": tables.Sweep(15, depths.tables)})
    assert [*tables.write(folder / "runs")] == []
    columns, *rows = tables.read("depth_ari")
    assert columns == ["layer", "model.n_layer=2", "model.n_layer=4", "model.n_layer=6"]
    assert [cell.split()[0] for cell in (rows[2][1], rows[4][2], rows[6][3])] == ["0.600", "0.700", "0.800"]
    assert rows[6][1:3] == ["-", "-"]
    assert [row[0] for row in tables.read("depth_accuracy")[1:]] == columns[1:]
    held = [f"{rows[2][1]}, holds in 2 of 5", rows[4][2], rows[6][3]]  # "holds in 5 of 5" is not said
    assert tables.read("depth_claims")[2][3:] == held  # above 0.6


@pytest.mark.parametrize("missing", [(4,), (0, 1), (0, 1, 2, 3, 4)])
def test_a_sweep_with_missing_runs_is_named_and_keeps_its_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, missing: tuple[int, ...]
) -> None:
    (folder / "runs" / "depths").mkdir(parents=True)
    (folder / "depth_ari.csv").write_text("kept\n")
    sweep(folder / "runs", *missing)
    monkeypatch.setattr(tables, "SWEEPS", {"depths": tables.Sweep(15, depths.tables)})
    (sentence,) = tables.write(folder / "runs")
    finished = 15 - 3 * len(missing)
    assert f"{finished} finished runs of 15" in sentence if finished else "contains no finished run" in sentence
    assert (folder / "depth_ari.csv").read_text() == "kept\n"
