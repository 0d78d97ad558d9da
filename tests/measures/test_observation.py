"""The cost of an observation: logits only where they are needed, a shared prefix once, a bounded number of rows."""

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


def shapes_of(module: torch.nn.Module) -> list[tuple[int, ...]]:
    """The shapes of what a module returns from now on."""
    shapes: list[tuple[int, ...]] = []
    module.register_forward_hook(lambda _, args, output: shapes.append(tuple(output.shape)))
    return shapes


@pytest.mark.parametrize(
    "layout", [["shared_prefix"], ["padded", "data.padding_side=left"], ["padded", "data.padding_side=right"]]
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_shared_prefix_and_few_logits_change_no_number(
    architecture: str, layout: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, *side = layout
    data, network = built(architecture, "data.loss_on=y", f"data.layout={place}", *side)
    read, predicted = shapes_of(network.get_input_embeddings()), shapes_of(network.get_output_embeddings())
    short = observe(network, data, "val")
    n_read = sum(shape[0] * shape[1] for shape in read)
    assert predicted[-1][:2] == (1, int(data.probe["val"].answers.sum()))
    monkeypatch.setattr(observation, "SHORTEST", 10**9)
    whole = observe(network, data, "val")
    assert n_read < 0.8 * (sum(shape[0] * shape[1] for shape in read) - n_read)
    assert short.loss == pytest.approx(whole.loss, rel=1e-5)
    assert torch.equal(short.correct, whole.correct)
    edited = [seen.edited("input", {1: lambda states, which: -states}).states for seen in (short, whole)]
    for one, other in ((short.states, whole.states), edited):
        torch.testing.assert_close(dict(one), dict(other), rtol=1e-5, atol=1e-5)


def test_the_default_run_is_read_in_passes_of_256_rows() -> None:
    data, network = prepare(RunConfig.of(composed()))
    assert rows_at_once(network, data.probe["val"], "sequence", None) == 256


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
