"""The run folder: its journal, its status, what is dropped on resuming, and files that are damaged."""

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from taskcluster.metrics import OWN
from taskcluster.operations.processes.interrupts import Interrupted
from taskcluster.runs import records
from taskcluster.runs.folder import RunFolder, digest_file
from taskcluster.runs.resume import writing
from taskcluster.validation import UserError

CONFIG = {"seed": 0, "model": {"n_layer": 6, "n_embd": 128}}


class AnyRecord(BaseModel, extra="allow"):
    """A file of any keys."""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def append(run: RunFolder, *steps: int) -> None:
    for step in steps:
        run.append({"step": step}, elapsed=0, measuring=0)


def steps(run: RunFolder) -> list[int]:
    return [row["step"] for row in run.rows()]


def test_the_journal_gives_back_what_was_appended(run: RunFolder) -> None:
    run.append({"step": 0, "val/loss": 0.1 + 0.2}, elapsed=1.23456, measuring=0)
    run.append({"step": 5, "val/loss": float("nan")}, elapsed=2, measuring=0)
    first, second = run.rows()
    assert (first["step"], first["val/loss"], first["elapsed"]) == (0, 0.1 + 0.2, 1.235)
    assert second["val/loss"] is None


def of_examples(run: RunFolder, *steps: int) -> None:
    for step in steps:
        values = {"val": {"prompt": ["a", "b"], "margin": np.array([0.1 + 0.2, math.nan])}}
        run.append({"step": step, "val/margin": 0.3, "examples": values}, elapsed=0, measuring=0)


def test_numbers_of_examples_have_a_file_for_each_step(run: RunFolder) -> None:
    of_examples(run, 0, 10, 20)
    run.start(CONFIG, 10, OWN)  # resumes there
    assert "examples" not in run.rows()[0]
    (first, second) = run.examples().rows(named=True)
    assert first == {"split": "val", "example": 0, "prompt": "a", "margin": 0.1 + 0.2}
    assert math.isnan(second["margin"])
    with pytest.raises(UserError, match="no numbers of examples of step 5; choose from: 0, 10"):
        run.examples(5)


def test_numbers_of_examples_that_are_missing_or_damaged_are_named(run: RunFolder) -> None:
    with pytest.raises(UserError, match="no numbers of examples; no measure of the run writes any"):
        run.examples()
    of_examples(run, 0)
    file = run.path / "examples" / "step=000000.parquet"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(UserError, match=r"step=000000.parquet is damaged; restore it"):
        run.examples()


def test_a_matrix_in_the_journal_has_null_where_it_is_undefined(run: RunFolder) -> None:
    run.append({"step": 0, "cka/val": [[1.0, math.nan], [0.5, 1.0]]}, elapsed=0, measuring=0)
    assert run.rows()[0]["cka/val"] == [[1.0, None], [0.5, 1.0]]


@pytest.mark.parametrize("damaged", ['{"step": 5, "val', '{"step" 5}\n{"step": 10}\n', "[]\n", '{"loss": 1}\n'])
def test_the_journal_is_read_up_to_a_torn_or_damaged_line(run: RunFolder, damaged: str) -> None:
    append(run, 0)
    with run.journal.open("a") as journal:
        journal.write(damaged)
    assert steps(run) == [0]


@pytest.mark.parametrize(
    ("written", "problem"), [([0, 10, 10], "line 3 has step 10 after step 10"), ([0, 9, 5], "line 3 has step 5")]
)
@pytest.mark.parametrize("name", ["metrics.jsonl", "training.jsonl"])
def test_a_journal_that_two_processes_wrote_is_refused_and_unchanged(
    run: RunFolder, written: list[int], problem: str, name: str
) -> None:
    file = run.path / name
    file.write_text("".join(f'{{"step": {step}}}\n' for step in written))
    before = file.read_bytes()
    with pytest.raises(UserError, match=rf"{name} is damaged \({problem}.*: two processes wrote this file\); restore"):
        run.start(CONFIG, 20, OWN)
    assert file.read_bytes() == before


def test_resuming_drops_what_was_written_later(run: RunFolder) -> None:
    run.start(CONFIG, None, OWN)
    append(run, 0, 5, 10)
    for file in (run.checkpoint(5), run.checkpoint(7, measured=False), run.checkpoint(10)):
        file.touch()
        digest_file(file).touch()
    mine = run.checkpoints / "step=000020 (copy).ckpt"
    mine.touch()
    (run.checkpoints / ".step=000015.ckpt.partial").touch()
    run.start(CONFIG, 7, OWN)
    assert (steps(run), [step for step, _ in run.saved()]) == ([0, 5], [5, 7])
    run.start(CONFIG, None, OWN)
    assert run.rows() == run.saved() == []
    assert list(run.checkpoints.iterdir()) == [mine]


def test_differing_keys_are_named_and_none_differ_in_a_new_folder(run: RunFolder) -> None:
    assert run.differing_keys(CONFIG) == []
    run.start(CONFIG, None, OWN)
    assert run.differing_keys(CONFIG | {"name": "other", "logger": {"project": "other"}}) == []
    changed = {"seed": 0, "model": {"n_layer": 2, "n_embd": 128, "n_head": 4}}
    assert run.differing_keys(changed) == ["model.n_head", "model.n_layer"]


def test_the_status_records_every_start_and_its_end(run: RunFolder) -> None:
    assert run.state == "new"
    with run.locked(), writing(run, None, device="cpu"):
        assert run.state == "running"
        append(run, 3)
    assert (run.state, run.status()["step"]) == ("finished", 3)
    with pytest.raises(RuntimeError, match="lost"), writing(run, 3):
        raise RuntimeError("lost")
    assert (run.state, run.status()["error"]) == ("failed", "RuntimeError: lost")
    with pytest.raises(Interrupted), writing(run, 3):
        raise Interrupted(15)
    assert (run.state, run.status()["error"]) == ("interrupted", "SIGTERM")
    assert [start["step"] for start in run.status()["starts"]] == [0, 3, 3]
    run.write_status("running")
    assert run.state == "killed"


def test_a_value_of_the_configuration_is_changed_by_its_dotted_key(run: RunFolder) -> None:
    with pytest.raises(UserError, match="is not the folder of a run"):
        run.config_with({})
    run.start(CONFIG, None, OWN)
    assert run.config_with({"model.n_layer": 2})["model"] == {"n_layer": 2, "n_embd": 128}
    assert run.config() == CONFIG  # as before: runs share what they read
    for key in ("model.depth", "seed.n_layer"):
        with pytest.raises(UserError, match=f"{key} is not a key of the run's configuration"):
            run.config_with({key: 2})


def test_config_of_an_earlier_version_is_read_as_this_one_records_it(tmp_path: Path) -> None:
    measures = {
        "surface": {"_target_": "taskcluster.measures.surface.Surface", "at": ["input"]},
        "kmeans_noise": {"_target_": "taskcluster.measures.controls.KMeansNoise", "n_seeds": 10},
        "mine": {"_target_": "mine.Measure"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"seed": 0, "measures": measures}))
    read = RunFolder(tmp_path).config()["measures"]
    assert read["surface"]["_target_"] == "taskcluster.measures.baselines.Surface"
    assert read["kmeans_noise"]["at"] == ["instruction_end", "input"]
    assert read["mine"] == measures["mine"]


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20))
PARTS = st.recursive(SCALARS, lambda part: st.lists(part) | st.dictionaries(st.text(max_size=5), part), max_leaves=8)
KEYS = st.sampled_from(["seed", "model", "task", "name", "_x"]) | st.text(max_size=5)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(KEYS, PARTS, max_size=5))
def test_a_recorded_configuration_is_read_as_it_was_written(config: dict[str, Any]) -> None:
    assert records.parsed(yaml.safe_dump(config, sort_keys=False).encode(), Path("config.yaml"), AnyRecord) == config


@pytest.mark.parametrize(
    "content",
    [
        '{"seed": 0, "model": {"n_layer": 6}}',
        "# by hand\nseed: 0\nmodel: {\nn_layer: 6}\n",
        "seed: 0 # the first\nmodel:\n  n_layer: 6\n...\n",
        "---\nseed: &a 0\nmodel:\n  n_layer: 6\n  seed: *a\n",
        "seed: &a 0\nmodel: {n_layer: 6, seed: *a}\n",
        'seed: "a\nmodel: b"\n',
        "seed:\n- 1\n- model: 2\nmodel:\nseed: 3\n",
        "? seed\n: 1\nmodel: 2\n",
    ],
)
def test_a_configuration_written_by_hand_is_yaml(content: str) -> None:
    assert records.parsed(content.encode(), Path("config.yaml"), AnyRecord) == yaml.safe_load(content)


@pytest.mark.parametrize("content", ["", "# nothing", "seed", "- seed", "seed: [", "a: *b", "a: 1\n---\nb: 2"])
def test_what_is_not_a_configuration_is_damaged(run: RunFolder, content: str) -> None:
    (run.path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"config\.yaml is damaged; restore it"):
        run.config()


def test_every_moved_module_exists() -> None:
    assert [module for module in records.MOVED.values() if find_spec(module) is None] == []
