"""What may differ between the checkpoints of one model, each of which computes the same alone and in one network."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, composed
from networks import byte_tokenizer, small
from safetensors.torch import load_file, save_file

from taskcluster.config import RunConfig
from taskcluster.models.architecture import sample
from taskcluster.models.training_module import TrainingDiverged
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.series import series
from taskcluster.training.copies import Copies, fingerprint
from taskcluster.training.experiment import prepare
from taskcluster.training.series import loss_as_loaded, put_checkpoint, refuse_different
from taskcluster.validation import UserError

WORDS = [word for word in SMALL if not word.startswith(("model.", "trainer.max_steps"))]


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
def theirs(saved: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda architecture: Path(shutil.copytree(saved / architecture, tmp_path / "theirs"))


def probing(path: Path, *words: str) -> RunConfig:
    return RunConfig.of(composed(*WORDS, "model=pretrained", "trainer.max_steps=0", f"model.path='{path}'", *words))


def edited(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def reweighed(checkpoint: Path, **changes: torch.Tensor | None) -> None:
    """changes: the new value of a weight, None for one that is left out; __ for the dots of a name."""
    weights = load_file(checkpoint / "model.safetensors")
    weights |= {name.replace("__", "."): value for name, value in changes.items() if value is not None}
    gone = {name.replace("__", ".") for name, value in changes.items() if value is None}
    kept = {name: value for name, value in weights.items() if name not in gone}
    save_file(kept, checkpoint / "model.safetensors", {"format": "pt"})


INERT: dict[str, dict[str, Any]] = {
    "llama": {
        "attention_dropout": 0.1, "_attn_implementation": "eager", "id2label": {"0": "a"}, "label2id": {"a": 0},
        "use_cache": True, "torch_dtype": "bfloat16", "transformers_version": "4.1.0", "architectures": ["Other"],
        "bos_token_id": 5, "eos_token_id": [6, 7], "pad_token_id": 8, "temperature": 0.7, "do_sample": True,
        "their_trainer_step": 3, "_name_or_path": "elsewhere", "initializer_range": 0.02, "pretraining_tp": 2,
        "rope_theta": 5.0,  # which is not read beside rope_parameters
        "max_position_embeddings": 128, "problem_type": "regression", "task_specific_params": {"a": 1},
    },
    "gpt2": {
        "attn_pdrop": 0.5, "resid_pdrop": 0.5, "embd_pdrop": 0.5, "summary_first_dropout": 0.3, "summary_type": "mean",
        "layer_norm_epsilon": 1e-5, "gradient_checkpointing": True, "n_ctx": 64,
    },
}  # fmt: skip


@pytest.mark.parametrize(("architecture", "key"), [(a, key) for a, keys in INERT.items() for key in keys])
def test_a_key_that_changes_no_state_may_differ(theirs: Callable[[str], Path], architecture: str, key: str) -> None:
    path = theirs(architecture)
    edited(path / "step2" / "config.json", **{key: INERT[architecture][key]})
    steps = series(probing(path))
    refuse_different(steps)
    data, network = prepare(steps[1])
    put_checkpoint(steps[2], data, network)
    _, alone = prepare(steps[2])
    inputs = sample(network, 2, data.longest)
    assert torch.equal(network.eval()(**inputs).logits, alone.eval()(**inputs).logits)


ACTIVE: dict[str, dict[str, Any]] = {
    "llama": {
        "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}, "rms_norm_eps": 1e-3, "hidden_act": "gelu",
        "num_attention_heads": 4, "num_key_value_heads": 1, "attention_bias": True, "tie_word_embeddings": False,
        "vocab_size": 299, "num_hidden_layers": 1,
    },
    "gpt2": {
        "n_head": 4, "layer_norm_epsilon": 1e-3, "activation_function": "relu", "scale_attn_weights": False,
        "scale_attn_by_inverse_layer_idx": True, "model_type": "gpt_neox",
    },
}  # fmt: skip


@pytest.mark.parametrize(("architecture", "key"), [(a, key) for a, keys in ACTIVE.items() for key in keys])
def test_a_key_that_changes_states_is_refused_by_its_name(
    theirs: Callable[[str], Path], architecture: str, key: str
) -> None:
    path = theirs(architecture)
    edited(path / "step2" / "config.json", **{key: ACTIVE[architecture][key]})
    with pytest.raises(UserError) as refused:
        refuse_different(series(probing(path)))
    said = str(refused.value)
    assert said.startswith(f"model.path='{path}/step2' differs from model.path='{path}/step1' in ")
    if key != "model_type":  # which another config class reads
        assert key in said
    if key == "rope_parameters":
        assert "rope_parameters.rope_theta (500000.0, not 10000.0)" in said


def test_several_keys_that_differ_are_all_named(theirs: Callable[[str], Path]) -> None:
    path = theirs("llama")
    edited(path / "step2" / "config.json", rms_norm_eps=1e-3, hidden_act="gelu", attention_dropout=0.5)
    with pytest.raises(UserError, match=r"in hidden_act \(gelu, not silu\), rms_norm_eps \(0.001, not 1e-06\); leave"):
        refuse_different(series(probing(path)))
    edited(path / "step2" / "config.json", num_attention_heads=1, head_dim=16, num_key_value_heads=1)
    with pytest.raises(UserError, match=r" and \d+ more; leave it out"):
        refuse_different(series(probing(path)))


def test_a_key_that_only_code_outside_the_config_class_reads_is_refused_by_what_it_changes(
    theirs: Callable[[str], Path],
) -> None:
    path = theirs("llama")
    edited(path / "step2" / "config.json", is_causal=False)
    steps = series(probing(path))
    refuse_different(steps)
    data, network = prepare(steps[1])
    with pytest.raises(UserError, match=r"step2' computes other states .* by is_causal \(False, not missing\); leave"):
        put_checkpoint(steps[2], data, network)


LENGTH = {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("tokenizer.json", {"truncation": LENGTH}),
        ("tokenizer.json", {"decoder": None}),
        ("tokenizer_config.json", {"model_max_length": 512, "chat_template": "{{ messages }}"}),
    ],
)
def test_what_changes_no_id_may_differ_between_tokenizers(
    theirs: Callable[[str], Path], file: str, changes: dict[str, Any]
) -> None:
    path = theirs("gpt2")
    edited(path / "step2" / file, **changes)
    refuse_different(series(probing(path)))


def test_a_chat_template_may_differ_only_without_chat(theirs: Callable[[str], Path]) -> None:
    path = theirs("gpt2")
    for number in (1, 2):
        (path / f"step{number}" / "chat_template.jinja").write_text(f"{number} {{{{ messages[0].content }}}}")
    refuse_different(series(probing(path)))
    with pytest.raises(UserError, match="in the tokenizer's chat frame"):
        refuse_different(series(probing(path, "data.chat=true")))


def test_buffers_and_tied_weights_may_be_saved_or_not(theirs: Callable[[str], Path]) -> None:
    path = theirs("gpt2")
    embedding = load_file(path / "step2" / "model.safetensors")["transformer.wte.weight"]
    mask = torch.ones(1, 1, 64, 64).tril()
    masks = {"transformer__h__0__attn__bias": mask, "transformer__h__0__attn__masked_bias": torch.tensor(-1e4)}
    reweighed(path / "step2", lm_head__weight=embedding.clone(), **masks)
    steps = series(probing(path))
    refuse_different(steps)
    data, network = prepare(steps[1])
    put_checkpoint(steps[2], data, network)
    assert torch.equal(network.get_output_embeddings().weight, embedding)


def test_an_output_layer_of_its_own_is_not_put_over_a_tied_one(theirs: Callable[[str], Path]) -> None:
    path = theirs("gpt2")
    reweighed(path / "step2", lm_head__weight=torch.ones(300, 16))
    steps = series(probing(path))
    data, network = prepare(steps[1])
    with pytest.raises(UserError, match="step2' has an output layer with other values than its embedding"):
        put_checkpoint(steps[2], data, network)


def test_copies_are_those_of_the_same_weights_to_the_bit_also_after_a_restart(
    theirs: Callable[[str], Path], tmp_path: Path
) -> None:
    path, run = theirs("llama"), RunFolder(tmp_path)
    _, first = prepare(series(probing(path))[1])
    copies = Copies(run, -1)
    assert [copies.add(10, first), copies.add(20, first)] == [[], [10]]
    with torch.no_grad():
        changed = first.get_output_embeddings().weight
        kept = float(changed[0, 0])
        changed[0, 0] = torch.nextafter(changed[0, 0], torch.tensor(9.0))
    assert copies.add(30, first) == []
    with torch.no_grad():
        changed[0, 0] = kept
    assert Copies(run, 30).add(40, first) == [10, 20]
    assert run.status()["copies"] == [[10, 20, 40]]
    assert Copies(run, 10).add(20, first) == [10]  # measured again from there
    assert run.status()["copies"] == [[10, 20]]
    assert Copies(run, -1).add(10, first) == []
    assert fingerprint(first.bfloat16()) != fingerprint(first.float())


@pytest.mark.parametrize(
    ("words", "step", "sentence"),
    [
        (
            (),
            10,
            "model.path='a/b': the loss is not finite at step 10, although no update has been made; choose another",
        ),
        (("model.revision=v1",), 0, "model.path='a/b' at revision 'v1': the loss is not finite at step 0"),
        (("model.dtype=float16",), 10, "made; choose model.dtype=float32, as float16 has no numbers above 65504"),
        (("trainer.max_steps=3",), 0, "the loss is not finite at step 0, although no update has been made"),
    ],
)
def test_no_learning_rate_is_blamed_for_a_loss_before_any_update(
    words: tuple[str, ...], step: int, sentence: str
) -> None:
    with pytest.raises(UserError) as refused, loss_as_loaded(probing(Path("a/b"), *words)):
        raise TrainingDiverged(step)
    assert sentence in str(refused.value)
    assert "optimizer" not in str(refused.value)


def test_a_loss_lost_by_training_is_no_mistake_of_the_checkpoint() -> None:
    with pytest.raises(TrainingDiverged), loss_as_loaded(probing(Path("a/b"), "trainer.max_steps=3")):
        raise TrainingDiverged(2)
