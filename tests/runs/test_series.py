"""The checkpoints of a model that others trained, as steps."""

from pathlib import Path

import pytest
from conftest import composed

from taskcluster.config import RunConfig
from taskcluster.runs.series import measured_up_to, series
from taskcluster.validation import UserError


def probing(*words: str) -> RunConfig:
    return RunConfig.of(composed("model=pretrained", "trainer.max_steps=0", *words))


def folder(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).mkdir()
        (path / name / "config.json").touch()
    return path


def test_checkpoints_of_a_folder_come_by_number(tmp_path: Path) -> None:
    folder(tmp_path, "step1000", "step90", "a-7b-step0", "notes")
    (tmp_path / "step5").mkdir()  # without a model
    found = series(probing(f"model.path={tmp_path}"))
    assert list(found) == [0, 90, 1000]
    model, data = found[90].model.arguments, found[90].data.arguments
    assert (model["path"], model["revision"]) == (str(tmp_path / "step90"), None)
    assert (data["tokenizer"], data["tokenizer_revision"]) == (str(tmp_path / "step90"), None)
    assert found[90].task == found[1000].task


def test_revisions_come_by_number(tmp_path: Path) -> None:
    found = series(probing("model.path=EleutherAI/pythia-70m", "model.revisions=[step128,step16,step1000]"))
    names = ["step16", "step128", "step1000"]
    assert list(found) == [16, 128, 1000]
    assert {config.model.arguments["path"] for config in found.values()} == {"EleutherAI/pythia-70m"}
    assert [config.model.arguments["revision"] for config in found.values()] == names
    assert [config.data.arguments["tokenizer_revision"] for config in found.values()] == [
        "step16",
        "step128",
        "step1000",
    ]
    own = series(probing("model.path=a/b", "model.revisions=[step1]", "data.tokenizer=c/d"))
    assert (own[1].data.arguments["tokenizer"], own[1].data.arguments["tokenizer_revision"]) == ("c/d", None)


@pytest.mark.parametrize("words", [("model=gpt2",), ("model.path=a/b",), ("model.path=a/b", "model.revisions=[]")])
def test_one_model_has_no_steps(words: tuple[str, ...]) -> None:
    assert series(probing(*words)) == {}


def test_a_model_with_checkpoints_below_it_is_one_model(tmp_path: Path) -> None:
    folder(tmp_path, "checkpoint-10", "checkpoint-20")
    (tmp_path / "config.json").touch()
    assert series(probing(f"model.path={tmp_path}")) == {}
    (tmp_path / "config.json").unlink()
    assert list(series(probing(f"model.path={tmp_path}"))) == [10, 20]
    assert series(probing(f"model.path={tmp_path}", "model.gguf_file=m.gguf")) == {}


def test_two_of_one_step_are_refused() -> None:
    with pytest.raises(UserError, match="has two checkpoints of one step, step128 and v128; leave one of them out"):
        series(probing("model.path=a/b", "model.revisions=[v128,step128]"))


@pytest.mark.parametrize(
    ("there", "last"), [([], None), ([9], 9), ([9, 10], 10), ([10], None), ([9, 100], 9), ([5, 9, 10, 100, 200], 200)]
)
def test_a_journal_counts_up_to_the_first_checkpoint_that_it_lacks(there: list[int], last: int | None) -> None:
    steps = series(probing("model.path=a/b", "model.revisions=[v9,v10,v100]"))
    assert measured_up_to(steps, [{"step": step} for step in there]) == last
