"""Pretrained models: probed as they are, fine-tuned, refused; against transformers' own passes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, Outcome
from huggingface_hub import errors
from networks import ARCHITECTURES, byte_tokenizer, small
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from taskcluster import load_run
from taskcluster.config import RunConfig
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures.observation import observe
from taskcluster.models.pretrained import pretrained
from taskcluster.operations.command_line.cli import composed
from taskcluster.runs.folder import RunFolder
from taskcluster.tasks.family import Task, TaskFamily
from taskcluster.training.experiment import prepare
from taskcluster.validation import UserError

PROBED = [word for word in SMALL if not word.startswith(("model.", "trainer.max_steps"))]
LONG = "data.template='This is a question: {instruction} {x} -> {y}.'"
SMOLLM2 = next((Path(__file__).parents[2] / ".models" / "smollm2").glob("*.gguf"), None)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a saved model, with its tokenizer, for each architecture."""
    folder = tmp_path_factory.mktemp("saved")
    for seed, architecture in enumerate(ARCHITECTURES):
        small(architecture, vocab_size=300, seed=seed).save_pretrained(folder / architecture)
        byte_tokenizer().save_pretrained(folder / architecture)
    return folder


def built(path: Path | str, *overrides: str) -> tuple[SequenceDataModule, PreTrainedModel]:
    words = [word for word in PROBED if not (word.startswith("task.") and "task=custom" in overrides)]
    return prepare(RunConfig.of(composed(*words, "model=pretrained", f"model.path={path}", *overrides)))


def plain(path: Path, data: SequenceDataModule, split: str = "val") -> tuple[torch.Tensor, list[bool], float]:
    """States at x, (L+1, N, D), which answers are right, and the loss, by transformers, each prompt by itself."""
    network = AutoModelForCausalLM.from_pretrained(path).eval()
    rows, states, right, losses = data.probe[split], [], [], []
    for example, (first, n_answers) in enumerate(zip(rows.firsts.tolist(), rows.answers.tolist(), strict=True)):
        row = int(rows.row_of[first])
        prefix = rows.tokens[rows.starts[row] : rows.starts[row] + rows.prefixes[row]]
        read = slice(first, first + int(rows.reads[example]))
        tokens = torch.cat([prefix, rows.tokens[read]])[None].long()
        targets = torch.cat([prefix[1:], rows.tokens[first : first + 1], rows.targets[read]]).long()
        x, answer = (int(rows.at(name)[example]) - first + len(prefix) for name in ("input", "answer"))
        with torch.no_grad():
            output = network(tokens, output_hidden_states=True)
        states.append(torch.stack(output.hidden_states)[:, 0, x])
        y = slice(answer, answer + n_answers)
        right.append(torch.equal(output.logits[0, y].argmax(-1), targets[y]))
        losses.append(torch.nn.functional.cross_entropy(output.logits[0, y], targets[y], reduction="none"))
    return torch.stack(states, 1), right, float(torch.cat(losses).mean())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("changes", [(), (LONG,), (LONG, "data.padding_side=right"), (LONG, "data.layout=sequences")])
def test_states_and_answers_are_those_of_transformers_prompt_by_prompt(
    saved: Path, architecture: str, changes: tuple[str, ...]
) -> None:
    data, network = built(saved / architecture, "data.probe_size=16", *changes)
    states, right, loss = plain(saved / architecture, data)
    seen = observe(network, data, "val", ["input"])
    torch.testing.assert_close(seen.states["input"], states, rtol=1e-5, atol=1e-5)
    assert seen.correct.tolist() == right
    assert seen.loss == pytest.approx(loss, rel=1e-5)
    assert network.training


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_last_layer_is_there_before_the_final_norm_too(saved: Path, architecture: str) -> None:
    data, network = built(saved / architecture, "data.probe_size=16")
    after, before = (observe(network, data, "val", ["input"], final_norm=norm) for norm in (True, False))
    assert torch.equal(before.states["input"][:-1], after.states["input"][:-1])
    names = {"gpt2": "transformer.ln_f", "llama": "model.norm", "gpt_neox": "gpt_neox.final_layer_norm"}
    norm = network.get_submodule(names[architecture])
    assert not torch.allclose(before.states["input"][-1], after.states["input"][-1], atol=1e-2)
    torch.testing.assert_close(norm(before.states["input"][-1]), after.states["input"][-1])
    configured, _ = built(saved / architecture, "data.probe_size=16", "data.probe_final_norm=false")
    assert torch.equal(observe(network, configured, "val", ["input"]).states["input"], before.states["input"])
    doubled = before.edited("input", {2: lambda states, which: 2 * states})
    torch.testing.assert_close(doubled.states["input"][-1], 2 * before.states["input"][-1])


def test_weights_have_the_precision_asked_for(saved: Path) -> None:
    data, network = built(saved / "llama", "model.dtype=bfloat16")
    assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    seen = observe(network, data, "val", ["input"])
    assert seen.states["input"].dtype == torch.float32
    exact = observe(built(saved / "llama")[1], data, "val", ["input"])
    assert seen.loss == pytest.approx(exact.loss, rel=0.02)


def without(source: Path, target: Path, *names: str) -> Path:
    target.mkdir()
    for file in source.iterdir():
        if not file.name.startswith(names):
            (target / file.name).write_bytes(file.read_bytes())
    return target


def pickled(source: Path, target: Path) -> Path:
    without(source, target, "model.safetensors")
    torch.save(AutoModelForCausalLM.from_pretrained(source).state_dict(), target / "pytorch_model.bin")
    return target


def headless(source: Path, target: Path) -> Path:
    """The weights of a model without its output layer."""
    without(source, target, "model.safetensors")
    AutoModelForCausalLM.from_pretrained(source).gpt_neox.save_pretrained(target)
    (target / "config.json").write_text((source / "config.json").read_text())
    return target


def reconfigured(source: Path, target: Path, **changes: Any) -> Path:
    without(source, target, "config.json")
    config = json.loads((source / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps(config))
    return target


def with_tokens(source: Path, target: Path) -> Path:
    without(source, target)
    larger = byte_tokenizer()
    larger.add_tokens([f"<{k}>" for k in range(40)])
    larger.save_pretrained(target)
    return target


def reweighed(source: Path, target: Path, **changes: torch.Tensor) -> Path:
    """changes: values of weights; __ for the dots of their names."""
    without(source, target)
    weights = load_file(source / "model.safetensors")
    weights |= {name.replace("__", "."): value for name, value in changes.items()}
    save_file(weights, target / "model.safetensors", {"format": "pt"})
    return target


def with_adapter(source: Path, target: Path) -> Path:
    without(source, target)
    (target / "adapter_config.json").write_text('{"base_model_name_or_path": "a/b", "peft_type": "LORA"}')
    return target


def damaged(source: Path, target: Path) -> Path:
    """The weights cut short."""
    file = without(source, target) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:900])
    return target


NORM, NAN = "gpt_neox__layers__1__input_layernorm__bias", torch.full((16,), torch.nan)


def with_gguf(source: Path, target: Path) -> Path:
    without(source, target)
    (target / "m.gguf").write_bytes(b"GGUF" + bytes(20))
    return target


EMPTY_Y = "task.tasks=[{instructions:[a,b],mapping:{x:'',z:y}},{instructions:[c,d],mapping:{x:y,z:z}}]"

MISTAKES: dict[str, tuple[Callable[[Path, Path], object], tuple[str, ...], str]] = {
    "no path": (lambda source, target: "", ("model.path=null",), "model.path=None: give a folder, or a model's name"),
    "no folder": (
        lambda source, target: target, (), "^model.path=.* cannot be loaded .it is not a folder.; correct the name"
    ),
    "no model": (lambda source, target: without(source, target, "model."), (), "model.path=.* cannot be loaded"),
    "no tokenizer": (
        lambda source, target: without(source, target, "tokenizer"), (), "^model.path=.* cannot be loaded"
    ),
    "a pickle": (pickled, (), "model.path=.*; give a folder with config.json and model.safetensors"),
    "no output layer": (headless, (), "model.path=.* lacks weights, such as (lm_head|embed_out).weight .1 in all."),
    "an unknown architecture": (
        lambda source, target: reconfigured(source, target, model_type="mystery"), (), "cannot be loaded .*mystery"
    ),
    "short prompts": (
        lambda source, target: source, ("data.template='" + "long " * 60 + "{instruction} {x} -> {y}'",),
        r"model.path=.* reads 64 tokens, fewer than the \d+ of the longest sequence; shorten data.template",
    ),
    "an empty answer": (
        lambda source, target: source, ("task=custom", "task.val_fraction=0.5", EMPTY_Y), "template gives y no token"
    ),
    "many tokens": (with_tokens, (), r"model.path=.* has 300 embeddings for the 3\d\d tokens of data.tokenizer"),
    "a weight without a place": (
        lambda source, target: reweighed(source, target, gpt_neox__layers__2__mlp__bias=torch.ones(3)), (),
        r"model.path=.* has weights that its architecture has no place for, such as gpt_neox.layers.2.mlp.bias \(1 in",
    ),
    "fewer layers than weights": (
        lambda source, target: reconfigured(source, target, num_hidden_layers=1), (),
        r"has no place for, such as gpt_neox.layers.1.attention.dense.bias \(12 in all\); give the config.json that",
    ),
    "a weight of another shape": (
        lambda source, target: reweighed(source, target, **{NORM: torch.ones(3)}), (),
        r"model.path=.* has gpt_neox.layers.1.input_layernorm.bias of shape \[3\], but its config.json asks for \[16\]",
    ),
    "another width": (
        lambda source, target: reconfigured(source, target, intermediate_size=32), (),
        r"dense_4h_to_h.weight of shape \[16, 64\], but its config.json asks for \[16, 32\]; give the config.json",
    ),
    "NaN": (
        lambda source, target: reweighed(source, target, **{NORM: NAN}), (),
        "model.path=.* has NaN or infinite values in gpt_neox.layers.1.input_layernorm.bias, read as float32; restore",
    ),
    "too large for a precision": (
        lambda source, target: reweighed(source, target, **{NORM: torch.full((16,), 1e6)}), ("model.dtype=float16",),
        "infinite values in gpt_neox.layers.1.input_layernorm.bias, read as float16; choose model.dtype=float32, or",
    ),
    "too large for its states": (
        lambda source, target: reweighed(source, target, **{NORM: torch.full((16,), 6e4)}), ("model.dtype=float16",),
        "model: the logits of GPTNeoXForCausalLM are NaN in torch.float16; choose model.dtype=float32",
    ),
    "an adapter": (with_adapter, (), r"model.path=.* cannot be loaded \(it is an adapter, which changes another model"),
    "quantized weights": (
        lambda source, target: reconfigured(source, target, quantization_config={"quant_method": "fp8"}), (),
        r"model.path=.* cannot be loaded \(its weights are quantized, and should be float32",
    ),
    "a cut file": (damaged, (), r"model.path=.* cannot be loaded \("),
    "a precision": (lambda source, target: source, ("model.dtype=float8",), "model.dtype='float8'"),
    "no GGUF file": (
        lambda source, target: source, ("model.gguf_file=none.gguf",),
        "^model.gguf_file='none.gguf' is not in .*gpt_neox, which holds no GGUF file",
    ),
    "a damaged GGUF file": (with_gguf, ("model.gguf_file=m.gguf",), "^model.path=.* cannot be loaded"),
    "a file": (
        lambda source, target: source / "config.json", (), "^model.path=.* cannot be loaded .it is not a folder"
    ),
    "a number": (lambda source, target: 12, (), "^model.path=12 is read as a number, not as text"),
    "a tokenizer of its own": (
        lambda source, target: source, ("data.tokenizer=./no",), "^data.tokenizer='./no' cannot be loaded"
    ),
    "a revision of the tokenizer": (
        lambda source, target: source, ("data.tokenizer_revision=7",), "^data.tokenizer_revision=7 is read as a number"
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_used_is_refused_in_one_sentence(saved: Path, tmp_path: Path, mistake: str) -> None:
    make, overrides, sentence = MISTAKES[mistake]
    path = make(saved / "gpt_neox", tmp_path / "made")
    with pytest.raises(UserError, match=sentence) as refused:
        built(path, *overrides)
    assert "\n" not in str(refused.value)


MASK = torch.ones(1, 1, 64, 64).tril()
HARMLESS = {
    "gpt2": {"transformer__h__0__attn__bias": MASK, "transformer__h__1__attn__masked_bias": torch.tensor(-1e4)},
    "llama": {"model__layers__0__self_attn__rotary_emb__inv_freq": torch.ones(4)},
    "gpt_neox": {
        "gpt_neox__layers__0__attention__bias": MASK,
        "gpt_neox__layers__0__attention__masked_bias": torch.tensor(-1e4),
        "gpt_neox__layers__0__attention__rotary_emb__inv_freq": torch.ones(2),
    },
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_buffers_that_older_versions_saved_change_nothing(saved: Path, tmp_path: Path, architecture: str) -> None:
    path = reweighed(saved / architecture, tmp_path / "made", **HARMLESS[architecture])
    same = zip(*(built(p)[1].state_dict().values() for p in (path, saved / architecture)), strict=True)
    assert all(torch.equal(one, other) for one, other in same)


def test_an_architecture_without_blocks_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from taskcluster.models import architecture

    monkeypatch.setattr(architecture, "KNOWN", {})
    _, network = built(saved / "llama")
    network.config.num_hidden_layers = 7
    with pytest.raises(UserError, match="has no list of num_hidden_layers=7 blocks"):
        architecture.blocks(network)


def test_a_gguf_file_needs_its_packages(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskcluster.data.sources.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"^model.gguf_file='m.gguf' needs the package gguf; install taskcluster-lm\[pretr"
    ):
        built(saved / "llama", "model.gguf_file=m.gguf")


def test_the_command_reports_a_mistake_in_one_sentence_before_anything_is_written(
    taskcluster_train: Callable[..., Outcome], tmp_path: Path
) -> None:
    outcome = taskcluster_train(*PROBED, "model=pretrained", f"model.path={tmp_path}/nowhere", "hydra.run.dir=run")
    assert outcome.exit_code == 2
    said = f"model.path='{tmp_path}/nowhere' cannot be loaded (it is not a folder); correct the name, or give a folder"
    assert outcome.err.startswith(f"taskcluster-train: {said}")
    assert len(outcome.err.splitlines()) == 1
    assert not [*(tmp_path / "run").rglob("*")]


@pytest.mark.parametrize("typed", ["12e4567", "true"])
def test_a_revision_that_is_read_as_a_number_is_named_as_it_was_typed(
    taskcluster_train: Callable[..., Outcome], saved: Path, typed: str
) -> None:
    words = [*PROBED, "model=pretrained", f"model.path={saved}/llama", "hydra.run.dir=run"]
    outcome = taskcluster_train(*words, f"model.revision={typed}")
    assert outcome.exit_code == 2
    read = "a truth value" if typed.lower() in ("true", "false") else "a number"
    advice = "write 'model.revision=\"TEXT\"', with both pairs of quotes"
    assert outcome.err.endswith(f" is read as {read}, not as text; {advice}\n")
    quoted = taskcluster_train(*words, f'model.revision="{typed}"')
    assert f"model.revision={typed!r}, but model.path=" in quoted.err


HUB = {  # what transformers raises of names on the hub, and what is said
    "OfflineModeIsEnabled": "it is not a folder, and Hugging Face's hub is switched off by HF_HUB_OFFLINE",
    "LocalEntryNotFoundError": "it is not a folder, Hugging Face's hub cannot be reached, and the cache has no copy",
    "RepositoryNotFoundError": "it is neither a folder nor a public model on Hugging Face's hub",
    "GatedRepoError": "access to it has to be granted on its page; log in with `hf auth login` afterwards",
}


@pytest.mark.parametrize("kind", HUB)
def test_answers_of_the_hub_are_given_in_plain_words(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, kind)
    advice = "correct the name, or give a folder or another model on Hugging Face's hub"
    with pytest.raises(UserError) as refused:
        built("org/name")
    assert str(refused.value) == f"model.path='org/name' cannot be loaded ({HUB[kind]}); {advice}"
    answer(monkeypatch, "RevisionNotFoundError")
    with pytest.raises(UserError, match=r"^model.revision='v9' is not a branch, tag or commit of 'org/name' on"):
        built("org/name", "model.revision=v9")


def answer(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Let transformers fail as with an answer of the hub's, of which it shows its own words."""
    error = getattr(errors, kind)

    def load(*_: object, **__: object) -> None:
        try:
            raise error.__new__(error)
        except error as cause:
            raise OSError("We couldn't connect to 'https://huggingface.co'\nCheck your internet") from cause

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", load)  # what is read first


def test_a_home_folder_is_written_out(monkeypatch: pytest.MonkeyPatch, saved: Path) -> None:
    monkeypatch.setenv("HOME", str(saved))
    with pytest.raises(UserError, match=f"model.path='~/llama' cannot be loaded .*; write {saved}/llama"):
        built("'~/llama'")


@pytest.mark.usefixtures("undrawn")
def test_a_model_is_probed_as_it_is_and_then_fine_tuned(
    taskcluster_train: Callable[..., Outcome], saved: Path, tmp_path: Path
) -> None:
    words = (*PROBED, "model=pretrained", f"model.path={saved}/llama", "hydra.run.dir=run")
    outcome = taskcluster_train(*words, "trainer.max_steps=0")
    assert outcome.exit_code == 0, outcome.err
    run = RunFolder(tmp_path / "run")
    (row,) = run.rows()
    assert (run.state, run.status()["step"], row["step"], run.saved()) == ("finished", 0, 0, [])
    assert "ari/val/layer_2" in row
    loaded = load_run(run.path)
    assert loaded.step == 0
    assert (measured := loaded.measure()) == {key: row[key] for key in measured}
    assert {claim["passed"] for claim in run.results()["claims"]} == {None}  # one measurement decides nothing
    assert "already finished" in taskcluster_train(*words, "trainer.max_steps=0").out

    outcome = taskcluster_train(*words, "trainer.max_steps=4", "optimizer.lr=0.01")
    assert outcome.exit_code == 2  # another learning rate
    outcome = taskcluster_train(*words, "trainer.max_steps=4")
    assert outcome.exit_code == 0, outcome.err
    first, *_, last = run.rows()
    assert first["step"] == 0
    assert last["step"] == 4
    both = {key for key in row if "/" in key and key in first}  # one is an end too, the other has training
    assert {"val/accuracy", "ari/val/layer_1"} < both
    assert {key: first[key] for key in both} == {key: row[key] for key in both}
    assert last["train/loss"] < first["train/loss"]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "precision",
    [("model.dtype=bfloat16",), ("trainer.precision=bf16-mixed",)],
    ids=lambda words: words[0],
)
def test_live_and_offline_numbers_are_the_same_bits_in_every_precision(
    taskcluster_train: Callable[..., Outcome], saved: Path, tmp_path: Path, precision: tuple[str]
) -> None:
    measures = "measures=[clustering_at_answer,baselines_at_answer]"
    words = (*PROBED, *precision, measures, "model=pretrained", f"model.path={saved}/llama", "hydra.run.dir=run")
    outcome = taskcluster_train(*words, "trainer.max_steps=0")
    assert outcome.exit_code == 0, outcome.err
    (row,) = RunFolder(tmp_path / "run").rows()
    loaded = load_run(tmp_path / "run")
    held = torch.float32 if "mixed" in precision[0] else torch.bfloat16
    assert loaded.network.dtype is held
    measured = loaded.measure()
    assert {"ari_at_answer_untrained/val/layer_2", "val/ari_within_x_at_answer_symbols"} <= {*measured}
    assert measured == {key: row[key] for key in measured}


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_trains_in_bfloat16_is_measured_offline_as_live(
    taskcluster_train: Callable[..., Outcome], tmp_path: Path
) -> None:
    outcome = taskcluster_train(*SMALL, "trainer.precision=bf16-true", "hydra.run.dir=run")
    assert outcome.exit_code == 0, outcome.err
    rows = {row["step"]: row for row in RunFolder(tmp_path / "run").rows()}
    for step in (2, 6):
        measured = load_run(tmp_path / "run", step).measure()
        assert measured == {key: rows[step][key] for key in measured}


@pytest.mark.slow
@pytest.mark.skipif(SMOLLM2 is None, reason="needs the model that `make smollm2` fetches")
def test_a_real_model_knows_languages() -> None:
    folder, file = str(SMOLLM2.parent), SMOLLM2.name
    told = {
        "Question: What is the capital of {x}?\nAnswer:": {"Japan": "Tokyo", "France": "Paris"},
        "Question: What is the main language of {x}?\nAnswer:": {"Japan": "Japanese", "France": "French"},
    }
    tasks = [Task(k, ("written",), ((i,),), mapping) for k, (i, mapping) in enumerate(told.items())]
    family = TaskFamily(tuple(tasks), "pair", 0.5, 0, x_inside=True)
    prefix = composed("data=questions")["data"]["prefix"]
    data = SequenceDataModule(
        family, folder, None, "padded", "left", 4, "y", 100, 0, 0, prefix, tokenizer_gguf_file=file
    )
    network = pretrained(len(data.tokenizer), data.longest, folder, None, file, "float32", False)
    for split in ("train", "val"):
        seen = observe(network, data, split, ["answer"])
        assert seen.states["answer"].shape == (31, 2, 576)
        assert seen.correct[seen.labels["answer"]["task"] == 1].all()  # languages; chance is one in 49,152
