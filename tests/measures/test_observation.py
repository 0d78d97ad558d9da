"""What an observation costs: logits where they are needed, a common beginning once, a bounded number of rows."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import composed
from networks import ARCHITECTURES, small
from transformers import PreTrainedModel

from taskcluster.config import RunConfig
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures import observation
from taskcluster.measures.observation import observe, rows_at_once
from taskcluster.training.experiment import prepare

TEMPLATE = "data.template='abcabcabcabc {instruction} {x} -> {y}'"
WORDS = ("task.n_tasks=4", "task.instructions_per_task=12", "task.instructions_spread=2", "task.n_inputs=4")
TASK = (*WORDS, "task.n_outputs=4", "task.n_mappings=2", "data.probe_size=40", TEMPLATE)


def built(architecture: str, *overrides: str) -> tuple[SequenceDataModule, PreTrainedModel]:
    data, _ = prepare(RunConfig.of(composed(*TASK, "model.n_layer=1", *overrides)))
    return data, small(architecture, vocab_size=len(data.tokenizer))


def given_by(module: torch.nn.Module, shapes: list[tuple[int, ...]]) -> Any:
    """Keep the shapes of what a module gives."""
    return module.register_forward_hook(lambda _, args, output: shapes.append(tuple(output.shape)))


@pytest.mark.parametrize("layout", ["shared_prefix", "padded"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_common_beginning_and_few_logits_change_no_number(
    architecture: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, network = built(architecture, "data.loss_on=y", f"data.layout={layout}")
    read, headed = list[tuple[int, ...]](), list[tuple[int, ...]]()
    hooks = [given_by(network.get_input_embeddings(), read), given_by(network.get_output_embeddings(), headed)]
    short = observe(network, data, "val")
    rows, n_read = data.probe["val"], sum(shape[0] * shape[1] for shape in read)
    assert headed[-1][:2] == (1, int(rows.answers.sum()))
    monkeypatch.setattr(observation, "SHORTEST", 10**9)
    read.clear()
    whole = observe(network, data, "val")
    assert n_read < 0.8 * sum(shape[0] * shape[1] for shape in read)
    for hook in hooks:
        hook.remove()
    for position in ("instruction_end", "input"):
        torch.testing.assert_close(short.states[position], whole.states[position], rtol=1e-5, atol=1e-5)
    assert short.loss == pytest.approx(whole.loss, rel=1e-5)
    assert torch.equal(short.correct, whole.correct)
    edit = {1: lambda states, which: -states}
    torch.testing.assert_close(
        short.edited("input", edit).states["input"], whole.edited("input", edit).states["input"], rtol=1e-5, atol=1e-5
    )


def test_with_the_loss_on_the_sequence_every_token_is_read() -> None:
    data, network = built("gpt2", "data.loss_on=sequence", "data.layout=padded")
    read = list[tuple[int, ...]]()
    given_by(network.get_input_embeddings(), read)
    observe(network, data, "val")
    assert read[-1][1] == data.longest - 1


def test_rows_of_a_pass_follow_from_width_length_and_vocabulary() -> None:
    data, network = prepare(RunConfig.of(composed()))
    assert rows_at_once(network, data.probe["val"], "sequence", None) == 256  # the default run
    padded = built("gpt2", "data.layout=padded")[0].probe["val"]

    def rows(**config: int) -> int:
        sizes = {"hidden_size": 576, "num_attention_heads": 9, "vocab_size": 49_152} | config
        return rows_at_once(SimpleNamespace(config=SimpleNamespace(**sizes)), padded, "sequence", "left")  # type: ignore[arg-type]

    assert 1 < rows() < 256
    assert rows(vocab_size=10_000) > rows()
    assert rows(hidden_size=100_000) < rows()
    assert rows(vocab_size=10**9) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("loss_on", ["y", "sequence"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padded_states_do_not_depend_on_what_else_is_in_the_batch(
    architecture: str, loss_on: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (f"data.loss_on={loss_on}", "data.layout=padded", "data.padding_side=left")
    data, network = built(architecture, *words)
    network.to(dtype)  # type: ignore[arg-type]  # transformers wraps it without types
    whole = observe(network, data, "val")
    for rows in (1, 3):
        monkeypatch.setattr(observation, "CHUNK", rows)
        parts = observe(network, data, "val")
        assert torch.equal(parts.states["input"], whole.states["input"])
        assert torch.equal(parts.correct, whole.correct)
    fewer, _ = built(architecture, *words, "data.probe_size=7")
    some = observe(network, fewer, "val")
    read = map(tuple, data.probe["val"].read_at("input"))
    known = dict(zip(read, whole.states["input"].unbind(1), strict=True))
    for read, state in zip(fewer.probe["val"].read_at("input"), some.states["input"].unbind(1), strict=True):
        assert torch.equal(state, known[tuple(read)])
