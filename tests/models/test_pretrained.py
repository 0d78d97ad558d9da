"""Pretrained models: probed as they are, fine-tuned, refused; against transformers' own passes."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, Train
from networks import ARCHITECTURES, byte_tokenizer, small
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from taskcluster import load_run
from taskcluster.config import RunConfig
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures.baselines import Untrained
from taskcluster.measures.clustering import ClusteringAtX
from taskcluster.measures.observation import Observation, observe
from taskcluster.models.pretrained import pretrained
from taskcluster.models.training_module import LanguageModel
from taskcluster.operations.command_line.cli import Job, composed
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


def without(source: Path, target: Path, *names: str, **files: str) -> Path:
    """A copy without files whose names begin so, and with `files`, by their names without .json."""
    target.mkdir()
    for file in source.iterdir():
        if not file.name.startswith(names):
            (target / file.name).write_bytes(file.read_bytes())
    for name, text in files.items():
        (target / f"{name}.json").write_text(text)
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
    config = json.loads((source / "config.json").read_text()) | changes
    return without(source, target, config=json.dumps(config))


def reweighed(source: Path, target: Path, **changes: torch.Tensor) -> Path:
    """changes: values of weights; __ for the dots of their names."""
    without(source, target)
    weights = load_file(source / "model.safetensors")
    weights |= {name.replace("__", "."): value for name, value in changes.items()}
    save_file(weights, target / "model.safetensors", {"format": "pt"})
    return target


NORM, NAN = "gpt_neox__layers__1__input_layernorm__bias", torch.full((16,), torch.nan)


EMPTY_Y = "task.tasks=[{instructions:[a,b],mapping:{x:'',z:y}},{instructions:[c,d],mapping:{x:y,z:z}}]"

MISTAKES: dict[str, tuple[Callable[[Path, Path], object], tuple[str, ...], str]] = {
    "no path": (lambda source, target: "", ("model.path=null",), "model.path=None: give a folder, or a model's name"),
    "no folder": (
        lambda source, target: target, (), "^model.path=.* cannot be loaded .it is not a folder.*; correct the name"
    ),
    "no model": (lambda source, target: without(source, target, "model."), (), "model.path=.* cannot be loaded"),
    "no tokenizer": (
        lambda source, target: without(source, target, "tokenizer"), (), "^model.path=.* cannot be loaded"
    ),
    "a pickle": (pickled, (), "model.path=.*; give a folder with config.json and model.safetensors"),
    "no output layer": (headless, (), "model.path=.* lacks (lm_head|embed_out).weight, unlike .* .1 such weights."),
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
    "a weight without a place": (
        lambda source, target: reweighed(source, target, gpt_neox__layers__2__mlp__bias=torch.ones(3)), (),
        r"model.path=.* has gpt_neox.layers.2.mlp.bias left over, unlike the architecture in its config.json \(1 such",
    ),
    "fewer layers than weights": (
        lambda source, target: reconfigured(source, target, num_hidden_layers=1), (),
        r"has gpt_neox.layers.1.attention.dense.bias left over, .* \(12 such weights\); give the whole files",
    ),
    "a weight of another shape": (
        lambda source, target: reweighed(source, target, **{NORM: torch.ones(3)}), (),
        r"model.path=.* has gpt_neox.layers.1.input_layernorm.bias of shape \[3\], and not \[16\]",
    ),
    "another width": (
        lambda source, target: reconfigured(source, target, intermediate_size=32), (),
        r"dense_4h_to_h.weight of shape \[16, 64\], and not \[16, 32\]",
    ),
    "NaN": (
        lambda source, target: reweighed(source, target, **{NORM: NAN}), (),
        "model.path=.* has NaN or infinite values in gpt_neox.layers.1.input_layernorm.bias, read as float32; choose",
    ),
    "too large for a precision": (
        lambda source, target: reweighed(source, target, **{NORM: torch.full((16,), 1e6)}), ("model.dtype=float16",),
        "infinite values in gpt_neox.layers.1.input_layernorm.bias, read as float16; choose model.dtype=float32, or",
    ),
    "too large for its states": (
        lambda source, target: reweighed(source, target, **{NORM: torch.full((16,), 6e4)}), ("model.dtype=float16",),
        "the states of GPTNeoXForCausalLM cannot be read .* its logits are NaN in torch.float16; choose .*float32",
    ),
    "an adapter": (
        lambda source, target: without(source, target, adapter_config="{}"), (),
        r"model.path=.* cannot be loaded \(it is an adapter, and has to be merged"
    ),
    "quantized weights": (
        lambda source, target: reconfigured(source, target, quantization_config={"quant_method": "fp8"}), (),
        r"model.path=.* cannot be loaded \(its weights are quantized, and must be float32",
    ),
    "a precision": (lambda source, target: source, ("model.dtype=float8",), "model.dtype='float8'"),
    "no GGUF file": (
        lambda source, target: source, ("model.gguf_file=none.gguf",),
        "^model.path='.*' cannot be loaded .* does not appear to have a file named none.gguf",
    ),
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


def test_an_answer_of_the_hub_is_given_in_its_first_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise OSError("v9 is not a valid git identifier\nCheck the page of the model")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", load)  # what is read first
    with pytest.raises(UserError) as refused:
        built("org/name", "model.revision=v9")
    assert str(refused.value) == (
        "model.path='org/name' at revision 'v9' cannot be loaded (it is not a folder, and it cannot be downloaded from "
        "Hugging "
        "Face's hub: v9 is not a valid git identifier); correct the name, with the home folder written out, or choose "
        "another folder or model"
    )


@pytest.mark.usefixtures("undrawn")
def test_a_model_is_probed_as_it_is_and_then_fine_tuned(taskcluster_train: Train, saved: Path, tmp_path: Path) -> None:
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
    taskcluster_train: Train, saved: Path, tmp_path: Path, precision: tuple[str]
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
def test_a_killed_analysis_resumes_with_the_measure_that_it_was_in(
    taskcluster_train: Train, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*PROBED, "measures=[clustering_at_answer,untrained,chance]", "model=pretrained")
    words = (*words, f"model.path={saved}/llama", "trainer.max_steps=0", "hydra.run.dir=run")
    monkeypatch.setattr(Job, "stopped", 0)

    def interrupted(measure: Untrained, seen: Observation) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        seen.executor(list, [[]])

    with monkeypatch.context() as patch:
        patch.setattr(Untrained, "measure", interrupted)
        assert taskcluster_train(*words).exit_code == 130
    run = RunFolder(tmp_path / "run")
    assert run.rows() == []
    kept = (run.path / "partial.jsonl").read_text().splitlines()
    assert [json.loads(line)["measure"] for line in kept] == ["val/clustering_at_answer"]
    with (run.path / "partial.jsonl").open("a") as partial:
        partial.write('{"step": 0, "meas')  # torn by a crash
    Job.stopped = 0  # the command would be another process
    with monkeypatch.context() as patch:
        patch.setattr(ClusteringAtX, "measure", lambda measure, seen: pytest.fail("it is measured already"))
        outcome = taskcluster_train(*words)
    assert outcome.exit_code == 0, outcome.err
    (row,) = run.rows()
    measured = load_run(run.path).measure()
    assert "ari_at_answer/val/layer_2" in measured
    assert measured == {key: row[key] for key in measured}
    assert not (run.path / "partial.jsonl").exists()


def test_a_model_with_a_map_of_devices_stays_there_and_gives_the_same_numbers(saved: Path) -> None:
    words = ("data.probe_size=16", "trainer.max_steps=0")
    data, network = built(saved / "llama", *words)
    _, placed = built(saved / "llama", *words, "model.device_map=cpu")
    seen, same = (observe(each, data, "val", ["input"]) for each in (network, placed))
    assert torch.equal(seen.states["input"], same.states["input"])
    model = LanguageModel(placed, lambda groups: torch.optim.SGD(groups), lambda optimizer: None, seed=0)
    assert model.to(torch.float16).network.dtype is torch.float32
    with pytest.raises(UserError, match=r"model.device_map='cpu' is for a model that is only measured; set"):
        built(saved / "llama", "model.device_map=cpu", "trainer.max_steps=4")


@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_weights_are_read_edited_and_refused_where_they_cannot_be(
    saved: Path, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("data.probe_size=16", f"model.bits={bits}", "trainer.max_steps=0")
    with pytest.raises(UserError, match=rf"model.bits={bits} needs one model in its own precision, not several"):
        built(saved / "llama", *words, "trainer.precision=bf16-true")
    with monkeypatch.context() as patch:
        patch.setattr("taskcluster.models.pretrained.find_spec", lambda name: None)
        with pytest.raises(UserError, match=rf"model.bits={bits} needs the package bitsandbytes; install it, or leave"):
            built(saved / "llama", *words)
    pytest.importorskip("bitsandbytes")
    if bits == 4:
        pytest.skip("on a CPU, its kernels need wider weights than these")
    data, network = built(saved / "llama", *words)  # whose states are edited and read to see that they can be
    assert {p.dtype for p in network.model.layers.parameters() if p.ndim > 1} == {torch.int8}
    exact = observe(built(saved / "llama", *words[::2])[1], data, "val", ["input"]).states["input"]
    states = observe(network, data, "val", ["input"]).states["input"]
    assert torch.nn.functional.cosine_similarity(states, exact, dim=2).min() > 0.99


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
