"""Reports on planted runs: the page, the summary and the table agree and are complete."""

import html
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import polars
import pytest
from planted import config, plant

from taskcluster.pages import multirun_report
from taskcluster.results.findings import Findings
from taskcluster.results.intervals import interval

ARIS = {2: (0.7, 0.8, 0.75), 3: (0.9, 0.95, 0.85)}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two conditions, three seeds each, with a report."""
    root = tmp_path_factory.mktemp("multirun") / "depth"
    for n_layer, aris in ARIS.items():
        for seed, ari in enumerate(aris):
            settings = config(seed, n_layer=n_layer)
            plant(root / f"model.n_layer={n_layer}/seed={seed}", ari, settings, kmeans=(0.0, -0.02, 0.02))
    assert multirun_report.write(root) == root / "report/index.html"
    return root


def tables(text: str) -> dict[str, list[list[str]]]:
    """Title -> rows of cells, of a Markdown summary."""
    found: dict[str, list[list[str]]] = {}
    for part in text.split("\n## ")[1:]:
        title, _, body = part.partition("\n")
        lines = [line for line in body.splitlines() if line.startswith("|")]
        found[title] = [line.strip("| ").split(" | ") for line in lines[2:]]
    return found


def shown(values: list[float], digits: int = 3, within: tuple[float, float] = (-math.inf, math.inf)) -> str:
    found = interval(values, within)
    same = found.sd == 0
    said = "(the same in all runs)" if same else f"[{found.lower:.{digits}f}, {found.upper:.{digits}f}]"
    return f"{found.mean:.{digits}f} {said}"


def ends(values: list[float], cells: int) -> str:
    found = interval(values, (-0.5, 1), cells)
    return "the same in all runs" if found.sd == 0 else f"[{found.lower:.3f}, {found.upper:.3f}]"


def test_numbers_of_the_summary_are_those_of_the_table(sweep: Path) -> None:
    summary = tables((sweep / "report/report.md").read_text())
    table = polars.read_csv(sweep / "report/table.csv", infer_schema_length=None)
    final = table.filter(polars.col("step") == 200)

    def values(condition: str, metric: str, **where: object) -> list[float]:
        return final.filter(condition=condition, metric=metric, **where)["value"].to_list()

    names = ["model.n_layer=2", "model.n_layer=3"]
    for row in summary["ARI by layer, at the separator"]:
        for name, n_layers, *cells in zip(names, (3, 4), row[1::3], row[2::3], row[3::3], strict=True):
            found = values(name, "ari", split="val", layer=int(row[0]))
            p = f"{max(values(name, 'ari_p', split='val', layer=int(row[0])), default=0):.3f}"
            assert cells == ([shown(found, within=(-0.5, 1)), ends(found, n_layers), p] if found else ["-"] * 3)
    for row in summary["Accuracy and loss"]:
        assert row[2] == shown(values(row[0], "accuracy", split="val"), within=(0, 1))
        assert row[3] == shown(values(row[0], "loss", split="train"))
    claims = json.loads((sweep / "model.n_layer=2/seed=0/results.json").read_text())["claims"]
    within = {claim["name"]: tuple(claim["range"]) for claim in claims}
    for row in summary["The paper's claims"]:
        name = html.unescape(row[0])
        for condition, cell in zip(names, row[3:], strict=True):
            assert cell.startswith(shown(values(condition, f"claim: {name}"), within=within[name]) + ", holds in ")
    for row in summary["When accuracy and clusters emerge"][::2]:
        accuracy, ari = (values(row[0], f"emergence of {metric}") for metric in ("accuracy", "ari"))
        later = [b - a for a, b in zip(accuracy, ari, strict=True)]
        assert row[2:5] == [shown(column, digits=0) for column in (accuracy, ari, later)]
    for row in summary["Controls of the ARI, at the separator"]:
        repeated = values(row[0], "ari with another KMeans seed", layer=int(row[1]))
        assert row[2] == shown([sum(repeated[k : k + 3]) / 3 for k in (0, 3, 6)], within=(-0.5, 1))
        assert float(row[5]) == pytest.approx(0.005)
        assert row[6] == "0.020"
    last = shown(list(ARIS[3]), within=(-0.5, 1)), ends(list(ARIS[3]), 4)
    assert summary["ARI by layer, at the separator"][3] == ["3", "-", "-", "-", *last, "0.003"]


def test_what_the_ari_is_compared_with_has_a_table_with_intervals_over_seeds(sweep: Path) -> None:
    rows = tables((sweep / "report/report.md").read_text())[
        "Baselines and nuisance labels of the ARI, at the separator"
    ]
    expected = {"against the task": 1.0, "baseline: bag of symbols": 0.5, "against the last symbol": 0.25}
    assert rows == [
        [words, *(shown([part * ari for ari in ARIS[n_layer]], within=(-0.5, 1)) for n_layer in (2, 3))]
        for words, part in expected.items()
    ]
    for name in ("baselines", "nuisance"):
        assert (sweep / f"report/{name}.png").is_file()


def test_a_map_has_a_table_whose_intervals_hold_in_all_its_cells(tmp_path: Path) -> None:
    aris = (0.74, 0.76, 0.75)
    for seed, ari in enumerate(aris):
        declared = plant(tmp_path / f"seed={seed}", ari, config(seed)).path / "catalogue.json"
        content = json.loads(declared.read_text())
        for metric in content["metrics"]:
            metric["views"] = ["runs", "curves", "layers", "tables", "map"] if metric["key"] == "ari" else None
        declared.write_text(json.dumps(content))
    multirun_report.write(tmp_path)
    assert (tmp_path / "report/map.png").is_file()
    table = tables((tmp_path / "report/report.md").read_text())["ARI by layer and step, at the separator"]
    assert [row[1] for row in table] == ["0", "50", "100", "150", "200"]
    assert table[-1][5] == f"0.750 {ends(list(aris), 5 * 4)}"
    assert "(20)" in (tmp_path / "report/report.md").read_text()
    intervals = polars.read_csv(tmp_path / "report/intervals.csv", infer_schema_length=None)
    last = intervals.filter(step=200, metric="ari", split="val", layer=3).row(0, named=True)
    of_map = interval(list(aris), (-0.5, 1), 20)
    assert (last["lower_over_map"], last["upper_over_map"]) == pytest.approx((of_map.lower, of_map.upper))
    assert (last["n"], last["cells"], last["mean"]) == (3, 20, pytest.approx(0.75))


def test_planted_noise_is_separated_and_accuracy_leads(sweep: Path) -> None:
    summary = tables((sweep / "report/report.md").read_text())
    last = summary["Controls of the ARI, at the separator"][-1]
    between = (0.05**2 - 0.02**2 / 3) ** 0.5  # seeds are 0.05 apart; the mean over three KMeans seeds has a third
    assert last[3:5] == ["0.020", f"{between:.3f}"]
    assert {row[5] for row in summary["When accuracy and clusters emerge"]} == {"accuracy"}


def test_the_page_has_every_cell_of_the_summary_and_loads_nothing(sweep: Path) -> None:
    page = (sweep / "report/index.html").read_text()
    cells = [html.unescape(cell) for cell in re.findall("<td[^>]*>(.*?)</td>", page.partition("<script>")[0])]
    said = [
        html.unescape(cell)
        for rows in tables((sweep / "report/report.md").read_text()).values()
        for r in rows
        for cell in r
    ]
    assert cells == [re.sub(r"^model\.(?=n_layer=)", "", cell) for cell in said]  # conditions have short names there
    markup = re.sub("<script>.*?</script>", "", page, flags=re.DOTALL)
    for loading in ("<script", "<link", "@import", "<img", "src=", "url("):
        assert loading not in markup


def test_figures_and_tables_are_there_in_every_format(sweep: Path) -> None:
    begins = {"png": b"\x89PNG", "svg": b"<svg", "pdf": b"%PDF"}
    for name in ("ari", "ari_within_x", "ari_by_layer", "learning"):
        for kind, begin in begins.items():
            assert (sweep / f"report/{name}.{kind}").read_bytes().startswith(begin)
    parquet = polars.read_parquet(sweep / "report/table.parquet")
    assert polars.read_csv(sweep / "report/table.csv", schema=parquet.schema).equals(parquet)
    # Five steps of two splits; claims and emergence; controls of two metrics; a baseline; p and a nuisance label.
    expected = [5 * 2 * (2 + 2 * n_layers) + 10 + 2 * n_layers * 5 + 1 + 2 * n_layers for n_layers in (3, 4)]
    assert len(parquet) == 3 * sum(expected)


def test_gaps_are_reported(tmp_path: Path) -> None:
    root = tmp_path / "sweep"
    plant(root / "model.n_layer=2/seed=0", 0.9, config(0, n_layer=2))
    plant(root / "model.n_layer=2/seed=1", 0.9, config(1, n_layer=2))
    plant(root / "model.n_layer=3/seed=0", 0.9, config(0))
    plant(root / "model.n_layer=3/seed=1", 0.9, config(1), finished=False)
    plant(root / "again", 0.9, config(0))
    damaged = plant(root / "model.n_layer=3/seed=2", 0.9, config(2))
    (damaged.path / "results.json").write_text("{")
    found = Findings(root)
    assert found.gaps == [
        "model.n_layer=3/seed=1: failed at step 50 of 200: OSError: no space left",
        f"{damaged.path}/results.json is damaged; restore it, or choose another folder",
        "model.n_layer=3/seed=0 is left out, as it repeats again",
        "model.n_layer=3 has no finished run with seed 1, as others have",
    ]
    assert [len(condition.runs) for condition in found.conditions] == [1, 2]


def test_names_with_markup_are_shown_as_they_are(tmp_path: Path) -> None:
    root = tmp_path / "<img src=x onerror=alert(1)>"
    plant(root / "seed=0", 0.9, config(0, task={"alphabet": "</script><b>"}))
    plant(root / "other/seed=0", 0.9, config(0))
    page = multirun_report.write(root).read_text()
    title, library = html.escape(root.name), re.search("<script>.*?</script>", page, re.DOTALL)
    assert f"<h1>{title}</h1>" in page
    assert library
    assert "<img" not in page.replace(library[0], "")
    assert "</script><b>" not in page


@pytest.mark.parametrize("folder", ["nothing", "."])
def test_a_folder_without_finished_runs_is_refused_in_a_sentence(tmp_path: Path, folder: str) -> None:
    plant(tmp_path / "seed=0", 0.9, config(0), finished=False)
    command = [sys.executable, "-m", "taskcluster.report", folder]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2
    assert re.fullmatch(r"taskcluster-report: .*(contains no finished run|is not a folder).*\n", ended.stderr)


def test_two_runs_have_no_interval_in_any_file(tmp_path: Path) -> None:
    for seed, ari in enumerate((0.8, 0.98)):
        plant(tmp_path / f"seed={seed}", ari, config(seed), kmeans=(0.0, 0.01))
    page = multirun_report.write(tmp_path)
    for text in (page.read_text(), (page.parent / "report.md").read_text()):
        written = re.sub("<script>.*</script>", "", text, flags=re.DOTALL)
        assert not re.search(r"\d \[", written)
        assert "too few runs" in written


def test_runs_in_which_no_claim_is_decided_have_no_table_of_claims(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for seed in range(3):
        plant(root / f"seed={seed}", 0.03, config(seed))  # only accuracy rises
        results = root / f"seed={seed}/results.json"
        content = json.loads(results.read_text())
        for claim in content["claims"]:
            claim |= {"passed": None, "undecided": "accuracy did not rise by 0.25"}
        results.write_text(json.dumps(content))
    page = multirun_report.write(root)
    for text in (page.read_text(), (page.parent / "report.md").read_text(), (page.parent / "table.csv").read_text()):
        assert "claim" not in re.sub("<script>.*</script>", "", text, flags=re.DOTALL)
    content["claims"][0]["passed"] = True  # in one run of three
    results.write_text(json.dumps(content))
    multirun_report.write(root)
    first, *others = tables((page.parent / "report.md").read_text())["The paper's claims"]
    assert first[3].endswith(", holds in 1 of 1, 2 not decided")
    assert {row[3].rpartition(", ")[2] for row in others} == {"3 not decided"}


def test_a_report_of_many_conditions_shows_some_and_counts_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Findings.to_read, "__defaults__", (3,))
    monkeypatch.setattr(multirun_report, "MOST_GAPS", 1)
    for n_layer in range(2, 9):
        for seed in (0, 1):
            finished = (n_layer, seed) not in ((2, 1), (3, 1))
            plant(
                tmp_path / f"model.n_layer={n_layer}/seed={seed}", 0.8, config(seed, n_layer=n_layer), finished=finished
            )
    multirun_report.write(tmp_path)
    summary = (tmp_path / "report/report.md").read_text()
    assert "12 finished runs, 7 conditions." in summary
    assert "Charts and tables show 3 of the 7 conditions, at equal distances in their order" in summary
    assert "- and 3 more" in summary  # two runs that failed, and the two seeds that are missing
    assert "3 of the 7 conditions" in (tmp_path / "report/index.html").read_text()
    shown_names = [f"model.n_layer={n_layer}" for n_layer in (2, 5, 8)]
    assert [row[0] for row in tables(summary)["What was run"]] == shown_names
    for name in ("table", "intervals"):
        every = polars.read_parquet(tmp_path / f"report/{name}.parquet")
        assert every["condition"].unique(maintain_order=True).to_list() == [f"model.n_layer={k}" for k in range(2, 9)]
