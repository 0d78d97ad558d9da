"""The checkpoints of a pretrained model as steps."""

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


def test_a_folder_with_a_name_that_may_be_several_steps_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, "step1", "7b-2024")
    with pytest.raises(
        UserError, match=r"^model.path='.*': '7b-2024' does not say which number is its step \(7b, 2024"
    ):
        series(probing(f"model.path={tmp_path}"))


def test_revisions_of_models_that_have_none_are_refused_with_the_key_that_was_given(tmp_path: Path) -> None:
    folder(tmp_path, "step1", "step2")
    several, one = f"model.path={tmp_path}", f"model.path={tmp_path}/step1"
    only = "is a folder, and only models on the hub have revisions; leave it out"
    refusals = {
        (several, "model.revision=step1"): (
            f"model.revision='step1', but model.path='{tmp_path}' {only}, or write model.path={tmp_path}/step1"
        ),
        (several, "model.revision=main"): f"model.revision='main', but model.path='{tmp_path}' {only}",
        (one, "model.revision=v1"): f"model.revision='v1', but model.path='{tmp_path}/step1' {only}",
        (one, "model.gguf_file=m.gguf", "model.revision=v1"): f"model.revision='v1', but model.path='{tmp_path}/step1'",
        (one, "data.tokenizer_revision=v1"): (
            f"data.tokenizer_revision='v1', but data.tokenizer='{tmp_path}/step1' {only}"
        ),
        ("model.path=a/b", "model.revisions=[step1]", "model.gguf_file=m.gguf"): (
            "model.gguf_file='m.gguf' is given together with model.revisions; leave one of them out"
        ),
        ("model.path=a/b", "model.revisions=[step1,step01]"): (
            "model.revisions has two checkpoints of one step, step01 and step1"
        ),
    }
    for words, sentence in refusals.items():
        with pytest.raises(UserError) as refused:
            series(probing(*words))
        assert str(refused.value).startswith(sentence)
    with pytest.raises(UserError, match=r"^data.tokenizer_revision='v1', but data.tokenizer="):
        series(RunConfig.of(composed("data=text", f"data.tokenizer={tmp_path}", "data.tokenizer_revision=v1")))
    follows = ("model.path=a/b", "model.revision=step1", f"data.tokenizer={tmp_path}/step1")
    assert series(probing(*follows)) == {}  # of the model's revision alone


def test_folders_of_adapters_are_checkpoints_that_can_be_refused(tmp_path: Path) -> None:
    folder(tmp_path, "step1")
    (tmp_path / "step2").mkdir()
    (tmp_path / "step2" / "adapter_config.json").touch()
    assert list(series(probing(f"model.path={tmp_path}"))) == [1, 2]
    assert series(probing(f"model.path={tmp_path}/step2")) == {}
