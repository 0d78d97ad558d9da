"""Checkpoints of a pretrained model as steps: which folders and revisions are, and what may differ between them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, composed
from huggingface_hub import scan_cache_dir
from networks import byte_tokenizer, small
from safetensors.torch import load_file, save_file

from taskcluster.config import RunConfig
from taskcluster.data.sources import revisions_of
from taskcluster.training.experiment import prepare
from taskcluster.training.series import put_checkpoint, refuse_different, series, step_of
from taskcluster.validation import UserError

WORDS = [word for word in SMALL if not word.startswith(("model.", "trainer.max_steps"))]


def probing(path: Path | str, *words: str) -> RunConfig:
    return RunConfig.of(composed(*WORDS, "model=pretrained", "trainer.max_steps=0", f"model.path='{path}'", *words))


STEPS = {
    "step600-tokens3B": 600,
    "stage2-ingredient3-step11931-tokens50B": 11931,
    "global_step1000": 1000,
    "iter_0001000": 1000,
    "CheckPoint_0010": 10,
    "pythia-1.4b-iteration=20M-7b.final": 20_000_000,
    "pythia-70m-step512": 512,
    "checkpoint-2-step1000": 1000,
    "epoch=3-step=1000": 1000,
    "step1000-2024-01-05": 1000,
    "step1.5k-tokens2.5B": 1500,
    "step10abc": 10,
    "1000steps": 1000,
    "tokens2.5B": 2_500_000_000,
    "007": 7,
}


@pytest.mark.parametrize("name", STEPS)
def test_the_name_of_a_checkpoint_states_its_step(name: str) -> None:
    assert step_of(name) == STEPS[name]


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("2024-01-05", "2024, 01, 05"),
        ("checkpoint-epoch3-1000", "3, 1000"),
        ("step3-of-step10", "3, 10"),
        ("checkpoint-7b-1000", "7b, 1000"),  # the size of the model, or a step
        ("checkpoint_1_5000", "1, 5000"),  # epoch and update, in fairseq's names
        ("step1_000", "1, 000"),
        ("v1.2", "1.2"),
        ("20240105123000123456", "20240105123000123456"),
    ],
)
def test_numbers_that_do_not_say_which_is_the_step_are_named(name: str, numbers: str) -> None:
    with pytest.raises(ValueError, match=rf"does not say which number is its step \({numbers}\); name it as step1000"):
        step_of(name)


def make_folders(path: Path, *names: str) -> None:
    for name in names:
        (path / name).mkdir()
        (path / name / "config.json").touch()


def test_checkpoints_of_a_folder_come_by_number(tmp_path: Path) -> None:
    make_folders(tmp_path, "step1000", "step90", "a-7b-step0", "notes")
    (tmp_path / "step5").mkdir()  # without a model
    steps = series(probing(tmp_path))
    assert list(steps) == [0, 90, 1000]
    model, data = steps[90].model.arguments, steps[90].data.arguments
    assert (model["path"], model["revision"]) == (str(tmp_path / "step90"), None)
    assert (data["tokenizer"], data["tokenizer_revision"]) == (str(tmp_path / "step90"), None)
    (tmp_path / "config.json").touch()  # it is a model, with its checkpoints below
    assert series(probing(tmp_path)) == {}


def test_revisions_come_by_number_and_the_tokenizer_follows(tmp_path: Path) -> None:
    steps = series(probing("a/b", "model.revisions=[step128,step16]"))
    assert [(step, config.model.arguments["revision"]) for step, config in steps.items()] == [
        (16, "step16"),
        (128, "step128"),
    ]
    assert steps[16].data.arguments["tokenizer_revision"] == "step16"
    other = series(probing("a/b", "model.revisions=[step1]", "data.tokenizer=c/d"))
    assert (other[1].data.arguments["tokenizer"], other[1].data.arguments["tokenizer_revision"]) == ("c/d", None)
    assert series(probing("a/b", "model.revisions=[]")) == series(probing("a/b")) == {}


def test_revisions_that_match_a_pattern_are_listed_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"a/b": ("main", "step1", "step10", "step1000", "step2000", "early-step3")}
    monkeypatch.setattr("taskcluster.training.series.revisions_of", lambda path: known.get(path, ()))
    assert [*series(probing("a/b", "model.revisions='step*000'"))] == [1000, 2000]
    assert [*series(probing("a/b", "model.revisions=[step5,'step1*']"))] == [1, 5, 10, 1000]
    assert [*series(probing("a/b", "model.revisions='*'"))] == [1, 3, 10, 1000, 2000]
    with pytest.raises(UserError, match=r"='tokens\*' matches no revision of a/b, such as main, step1, step10; change"):
        series(probing("a/b", "model.revisions='tokens*'"))
    with pytest.raises(UserError, match=r"='step\*' matches no revision of c/d, or it is neither on the hub nor"):
        series(probing("c/d", "model.revisions='step*'"))


def test_without_the_hub_the_revisions_in_the_cache_are_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    repo = tmp_path / "models--a--b"
    for number, name in enumerate(("step1", "step20")):
        (repo / "snapshots" / str(number)).mkdir(parents=True)
        (repo / "refs").mkdir(exist_ok=True)
        (repo / "refs" / name).write_text(str(number))

    def refuse(name: str) -> None:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.list_repo_refs", refuse)
    monkeypatch.setattr("huggingface_hub.scan_cache_dir", lambda: scan_cache_dir(tmp_path))
    revisions_of.cache_clear()
    assert (revisions_of("a/b"), revisions_of("a/c")) == (("step1", "step20"), ())
    revisions_of.cache_clear()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FOLDER/ARCHITECTURE/step1 and step2."""
    folder = tmp_path_factory.mktemp("saved")
    for architecture in ("gpt2", "llama"):
        for seed, name in enumerate(("step1", "step2")):
            small(architecture, vocab_size=300, seed=seed).save_pretrained(folder / architecture / name)
            byte_tokenizer().save_pretrained(folder / architecture / name)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda architecture: Path(shutil.copytree(saved / architecture, tmp_path / "theirs"))


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


NO_EFFECT: dict[str, dict[str, Any]] = {
    "llama": {
        "attention_dropout": 0.1, "id2label": {"0": "a"}, "label2id": {"a": 0}, "use_cache": True,
        "torch_dtype": "bfloat16", "transformers_version": "4.1.0", "bos_token_id": 5, "temperature": 0.7,
        "their_trainer_step": 3, "_name_or_path": "elsewhere", "initializer_range": 0.02, "pretraining_tp": 2,
        "max_position_embeddings": 128,
    },
    "gpt2": {"attn_pdrop": 0.5, "summary_type": "mean", "gradient_checkpointing": True, "n_ctx": 64},
}  # fmt: skip


@pytest.mark.parametrize("architecture", NO_EFFECT)
def test_keys_that_change_no_state_may_differ(copied: Callable[[str], Path], architecture: str) -> None:
    path = copied(architecture)
    edit(path / "step2" / "config.json", **NO_EFFECT[architecture])
    steps = series(probing(path))
    refuse_different(steps)
    data, network = prepare(steps[1])
    put_checkpoint(steps[2], data, network)
    _, alone = prepare(steps[2])
    inputs = torch.randint(300, (2, 20))
    assert torch.equal(network.eval()(inputs).logits, alone.eval()(inputs).logits)


EFFECT: dict[str, dict[str, Any]] = {
    "llama": {
        "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}, "rms_norm_eps": 1e-3, "hidden_act": "gelu",
        "num_key_value_heads": 1, "attention_bias": True, "tie_word_embeddings": False, "num_hidden_layers": 1,
    },
    "gpt2": {
        "n_head": 4, "layer_norm_epsilon": 1e-3, "activation_function": "relu", "scale_attn_weights": False,
        "scale_attn_by_inverse_layer_idx": True,
    },
}  # fmt: skip


@pytest.mark.parametrize(("architecture", "key"), [(a, key) for a, keys in EFFECT.items() for key in keys])
def test_a_key_that_changes_states_is_refused_by_its_name(
    copied: Callable[[str], Path], architecture: str, key: str
) -> None:
    path = copied(architecture)
    edit(path / "step2" / "config.json", **{key: EFFECT[architecture][key]})
    with pytest.raises(UserError) as refused:
        refuse_different(series(probing(path)))
    assert str(refused.value).startswith(f"model.path='{path}/step2' differs from model.path='{path}/step1' in ")
    assert key in str(refused.value)


def test_settings_of_a_tokenizer_that_change_no_id_may_differ(copied: Callable[[str], Path]) -> None:
    path = copied("gpt2")
    edit(path / "step2" / "tokenizer.json", decoder=None)
    edit(path / "step2" / "tokenizer_config.json", model_max_length=512)
    for number in (1, 2):
        (path / f"step{number}" / "chat_template.jinja").write_text(f"{number} {{{{ messages[0].content }}}}")
    refuse_different(series(probing(path)))
    with pytest.raises(UserError, match="in the tokenizer's chat frame"):
        refuse_different(series(probing(path, "data.chat=true")))
    edit(path / "step2" / "tokenizer.json", normalizer={"type": "Lowercase"})
    with pytest.raises(UserError, match="in the tokenizer's normalizer"):
        refuse_different(series(probing(path)))


def test_buffers_and_tied_weights_may_be_saved_or_not(copied: Callable[[str], Path]) -> None:
    file = copied("gpt2") / "step2" / "model.safetensors"
    weights = load_file(file)
    embedding = weights["transformer.wte.weight"]
    buffer = {"transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64).tril()}
    save_file(weights | buffer | {"lm_head.weight": embedding.clone()}, file, {"format": "pt"})
    steps = series(probing(file.parents[1]))
    refuse_different(steps)
    data, network = prepare(steps[1])
    put_checkpoint(steps[2], data, network)
    assert torch.equal(network.get_output_embeddings().weight, embedding)
