"""The documentation is correct: the site builds, commands compose, examples train, links resolve."""

import html
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import nbformat
import numpy as np
import pytest
import torch
import written
import yaml
from conftest import SMALL, Train
from omegaconf import OmegaConf
from polars.testing import assert_frame_equal
from written import DOCS, ROOT

import taskcluster
from taskcluster import dashboard, report
from taskcluster.config import RunConfig
from taskcluster.metrics import OWN
from taskcluster.operations.command_line.cli import job_config
from taskcluster.pages.multirun_report import write
from taskcluster.runs.condition import flatten
from taskcluster.runs.folder import RunFolder, drop_checkpoint

sys.path.append(str(DOCS))
import reference

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def commands(program: str) -> list[str]:
    """Every command line of the pages that begins with `program`, each once, without its comment."""
    shell = (block.text for page in PAGES for block in written.blocks(page) if block.language == "sh")
    lines = {line for text in shell for line in written.commands(text)}
    return sorted(line for line in lines if line.split()[:1] == [program])


class Making(NamedTuple):
    """A folder that a command fills."""

    folder: Path
    process: subprocess.Popen[str]

    def wait(self) -> Path:
        said, _ = self.process.communicate(timeout=600)
        assert self.process.returncode == 0, said
        return self.folder


def start(folder: Path, *arguments: str, cwd: Path) -> Making:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": path}
    command, log = [sys.executable, "-m", *arguments], subprocess.PIPE
    return Making(
        folder, subprocess.Popen(command, cwd=cwd, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True)
    )


@pytest.fixture(scope="module", autouse=True)
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Making, Making]]:
    """The site and the notebook, which are made while other tests run."""
    project, notebook = (tmp_path_factory.mktemp(name) for name in ("project", "notebook"))
    shutil.copytree(DOCS, project / "docs")
    shutil.copy(ROOT / "mkdocs.yml", project)
    for name in ("taskcluster", "benchmarks", "conf"):  # the API, and what pages include
        (project / name).symlink_to(ROOT / name)
    (notebook / "notebook.ipynb").write_text((DOCS / "notebook.ipynb").read_text())
    makings = (
        start(project / "site", "zensical", "build", "--strict", cwd=project),
        start(notebook, "jupyter", "execute", "--inplace", "notebook.ipynb", cwd=notebook),
    )
    yield makings
    for making in makings:
        making.process.kill()
        making.process.communicate()


@pytest.fixture(scope="module")
def site(started: tuple[Making, Making]) -> Path:
    return started[0].wait()


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent == ROOT], ids=lambda page: page.name)
def test_links_of_pages_outside_the_site_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text())
    assert len(links) > 3
    assert [link for link in links if "://" not in link and not (ROOT / link).is_file()] == []


def test_the_version_to_cite_is_the_version() -> None:
    assert CITATION["version"] == taskcluster.__version__


@pytest.mark.parametrize("command", commands("taskcluster-train"))
def test_a_command_composes_and_passes_the_checks(
    taskcluster_train: Train, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)[1:]
    if "--help" in words or "--cfg" in words:
        assert taskcluster_train(*words).exit_code == 0
        return
    last = r"^([\w.+/]+=)(?:\[.*\],(\[[^\]]*\])|[^\[,]+,(?:.*,)?([^,]+))$"  # of several values
    one = [re.sub(last, r"\1\2\3", word) for word in words if word != "-m"]
    assert "-m" in words or one == words
    outcome = taskcluster_train("--cfg", "job", *one)
    assert outcome.exit_code == 0, outcome.err
    RunConfig.of(job_config(OmegaConf.create(outcome.out)))


@pytest.mark.parametrize("program", [dashboard, report], ids=["dashboard", "report"])
def test_the_flags_of_other_commands_exist(
    program: object, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    name = program.__name__.rpartition(".")[2]  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit):
        program.main()  # type: ignore[attr-defined]
    known = capfd.readouterr().out
    lines = commands(f"taskcluster-{name}")
    assert lines
    for flag in re.findall(r"--[a-z-]+", " ".join(lines)):
        assert flag in known


def test_targets_of_make_exist() -> None:
    targets = re.findall(r"^([a-z\d-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"\bmake ([a-z\d-]+)", " ".join(commands("make") + re.findall(r"`(make [a-z\d-]+)`", _all())))
    assert len(named) > 5
    assert {*named} <= {*targets}


def _all() -> str:
    return "\n".join(page.read_text() for page in PAGES)


@pytest.fixture
def own_code(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the modules that an example imports."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in ("clock", "small_qwen", "dimension", "prompt_length", "similarity", "margin"):
        sys.modules.pop(name, None)


def train_example(taskcluster_train: Train, name: str, *words: str, own: str) -> RunFolder:
    """The run of an example under docs/examples with the rest as small as in other tests. own: the keys that it has."""
    command = ["--config-dir", str(DOCS / "examples" / name), *words]
    assert f"--config-dir docs/examples/{name} {' '.join(words[:1])}" in _all().replace('"', "")
    small = [word for word in SMALL if not own or not word.startswith(own)]
    outcome = taskcluster_train(*command, *small, "hydra.run.dir=run")
    assert outcome.exit_code == 0, outcome.err
    return RunFolder(Path("run"))


@pytest.mark.parametrize(
    ("example", "words"), [("task", ["task=clock"]), ("written", ["task=geography", "data.batch_size=12"])]
)
def test_the_examples_of_tasks(taskcluster_train: Train, own_code: None, example: str, words: list[str]) -> None:
    run = train_example(taskcluster_train, example, *words, own="task.")
    assert "ari/val/layer_2" in run.rows()[-1]


def test_the_example_of_a_model(taskcluster_train: Train, own_code: None) -> None:
    run = train_example(taskcluster_train, "model", "model=small_qwen", own="")
    assert run.config()["model"]["_target_"] == "small_qwen.small_qwen"
    assert type(taskcluster.load_run(run.path).network).__name__ == "Qwen3ForCausalLM"


def test_the_example_of_a_measure(taskcluster_train: Train, own_code: None) -> None:
    run = train_example(taskcluster_train, "measure", "measures=[clustering,dimension]", own="")
    assert all(1 <= run.rows()[-1][f"dimension/{split}/layer_2"] <= 16 for split in ("train", "val"))
    assert (run.figures / "dimension.png").is_file()


ASKED = ("measures=[clustering,prompt_length,similarity,margin]", "name=asked")


def test_the_examples_of_measures_that_read_texts_and_return_matrices_and_numbers_of_examples(
    taskcluster_train: Train, own_code: None
) -> None:
    run = train_example(taskcluster_train, "measure", *ASKED, own="")
    last = run.rows()[-1]
    assert 0 <= last["prompt_length/val/layer_2"] <= 1
    examples = run.examples()
    assert last["val/margin"] == examples.filter(split="val")["margin"].to_numpy().mean()
    assert ((examples["margin"] > 0) == examples["correct"]).all()
    assert {"prompt", "task", "x", "y"} <= {*examples.columns}
    assert np.diag(last["cka/val"]) == pytest.approx(np.ones(3))
    matrix = taskcluster.results(run.path).filter(metric="cka", split="val", step=6)
    assert matrix["value"].to_list() == [value for row in last["cka/val"] for value in row]
    assert {"cka.png", "margin_by_example.png"} <= {file.name for file in run.figures.iterdir()}
    for step in (0, 6):
        measured = taskcluster.load_run(run.path, step).measure()
        again = [value for split in ("train", "val") for value in measured["examples"][split]["margin"].tolist()]
        assert again == run.examples(step)["margin"].to_list()
    assert "Similarity of layers (CKA), at x" in write(run.path).read_text()


def test_the_examples_of_measures_give_known_answers(own_code: None) -> None:
    sys.path.append(str(DOCS / "examples" / "measure"))
    from margin import margins
    from prompt_length import shared_variance

    lengths = torch.arange(100)
    assert shared_variance(lengths[:, None] * torch.randn(16) + 7, lengths) > 0.999
    assert margins(torch.tensor([[3.0, 1.0], [2.0, 6.0]]), torch.tensor([0, 0])).tolist() == [2.0, -4.0]


@pytest.mark.slow
def test_numbers_of_examples_and_matrices_are_the_same_after_resuming(taskcluster_train: Train, own_code: None) -> None:
    run = train_example(taskcluster_train, "measure", *ASKED, own="")
    examples, last = run.examples(), run.rows()[-1]
    drop_checkpoint(run.checkpoint(6))
    run.write_status("interrupted")
    train_example(taskcluster_train, "measure", *ASKED, own="")
    assert_frame_equal(run.examples(), examples)
    assert run.rows()[-1]["cka/val"] == last["cka/val"]


def test_docs_and_examples_import_public_names_only() -> None:
    pages = [*PAGES, *DOCS.glob("*.ipynb"), *(DOCS / "examples").rglob("*.py")]
    imports = r"from taskcluster(\.[\w.]+)? import ([\w, ]+)|^import taskcluster(\.\w+)"
    for page in pages:
        for inner, names, module in re.findall(imports, page.read_text(), re.MULTILINE):
            assert inner + module == "", page
            assert {*re.split(r"[ ,]+", names.strip())} <= {*taskcluster.__all__}, page


@pytest.mark.parametrize("page", ["add_task", "add_model", "add_measure"])
def test_the_tests_of_the_guides_pass(page: str, own_code: None) -> None:
    sys.path += [str(folder) for folder in (DOCS / "examples").iterdir()]
    python = [block.text for block in written.blocks(DOCS / f"{page}.md") if block.language == "python"]
    tests = [text for text in python if "import" in text and "load_run" not in text]
    assert tests
    for test in tests:
        exec(compile(test, page, "exec"), {})


def shown(page: Path) -> str:
    """The text of a page of the site as a reader sees it."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text()))


def test_every_page_of_the_site_is_in_its_navigation(site: Path) -> None:
    listed = re.findall(r": (\w+)\.md$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(page.stem for page in DOCS.glob("*.md"))
    assert {*listed, "404"} == {page.stem for page in site.glob("*.html")}


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        loaded = re.findall(r"<(?:script|img|link|iframe)[^>]*?(?:src|href)=\"([^\"]+)", page.read_text())
        assert [address for address in loaded if re.match(r"(https?:)?//", address)] == [], page.name


def test_the_reference_has_every_key_of_the_configuration(site: Path) -> None:
    said = shown(site / "configuration.html")
    for file in (ROOT / "conf").rglob("*.yaml"):
        group = file.parent.relative_to(ROOT / "conf")
        assert not group.parts or f"{group}={file.stem}" in said
        alone = not group.parts or group.name == "experiment"
        prefix = "" if alone else ".".join(group.parts) + "."
        for key, value in flatten(yaml.safe_load(file.read_text())).items():
            if key != "defaults" and not key.startswith("hydra.help."):
                assert f"{prefix}{key}" in said
                assert not isinstance(value, int | float) or str(value).lower() in said


def test_the_reference_has_every_comment_of_the_configuration(site: Path) -> None:
    said = re.sub(r"\s+", " ", shown(site / "configuration.html"))
    for file in (ROOT / "conf").rglob("*.yaml"):
        for line in takewhile(lambda line: "template: |-" not in line, file.read_text().splitlines()):
            comment = re.search(r"(?:^|\s)# (?!@package|    )(.*)", line)
            words = re.sub(r"\s+", " ", comment[1]).replace("`", "") if comment else ""
            assert words in said, f"{file.name}: {words}"


def test_the_reference_has_every_metric(site: Path) -> None:
    said = shown(site / "metrics.html")
    for metric in OWN:
        assert metric.at("val", 3) in said
    for file in (ROOT / "conf" / "measures").glob("*.yaml"):
        assert f"measures=[{file.stem}]" in said


def test_the_reference_has_every_name_of_the_library(site: Path) -> None:
    page = (site / "api.html").read_text()
    for name in taskcluster.__all__:
        assert f'id="taskcluster.{name}"' in page


def test_a_guide_shows_its_example_whole(site: Path) -> None:
    pages = "".join(shown(page) for page in site.glob("*.html"))
    examples = [file for file in (DOCS / "examples").rglob("*") if file.suffix in (".py", ".yaml")]
    assert len(examples) >= 14
    assert [file.name for file in examples if file.read_text().strip() not in pages] == []


def test_the_notebook_is_a_page_with_its_outputs(site: Path) -> None:
    pictures = re.findall(r'src="(images/notebook_\d\.png)"', (site / "notebook.html").read_text())
    assert len(pictures) == 2
    assert all((site / picture).is_file() for picture in pictures)
    assert "instead of" in shown(site / "notebook.html")


def test_generated_parts_of_the_reference_are_up_to_date() -> None:
    files = reference.generated()
    old = [file.relative_to(ROOT) for file in files if not file.is_file() or file.read_bytes() != files[file]]
    assert old == [], "run `make reference`"


@pytest.mark.slow
def test_the_notebook_executes(started: tuple[Making, Making]) -> None:
    folder = started[1].wait()
    stored, executed = (nbformat.read(where / "notebook.ipynb", as_version=4) for where in (DOCS, folder))
    assert RunFolder(folder / "outputs" / "notebook").state == "finished"
    assert [cell.source for cell in stored.cells] == [cell.source for cell in executed.cells]
    for cell in stored.cells:
        assert cell.cell_type == "markdown" or cell.outputs or cell.source.endswith(";")


SMOLLM2 = ROOT / ".models" / "smollm2"


@pytest.mark.slow
@pytest.mark.skipif(not SMOLLM2.is_dir(), reason="needs `make smollm2`")
def test_the_notebook_of_a_pretrained_model_executes(tmp_path: Path) -> None:
    (tmp_path / ".models").symlink_to(SMOLLM2.parent)
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "your_model.ipynb").write_text((DOCS / "your_model.ipynb").read_text())
    start(folder, "jupyter", "execute", "--inplace", "your_model.ipynb", cwd=folder).wait()
    for cell in nbformat.read(folder / "your_model.ipynb", as_version=4).cells[5:]:
        assert cell.cell_type == "markdown" or cell.outputs
