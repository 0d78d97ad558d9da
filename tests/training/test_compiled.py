"""`trainer.compile`: the same training up to rounding, compiled once. By aot_eager, which needs no compiler."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch._dynamo
from conftest import SMALL, Outcome, bare_trainer
from faults import assert_identical, timeless
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.config import RunConfig
from taskcluster.data.datamodule import SequenceDataModule, TrainingBatches
from taskcluster.operations.command_line.cli import composed
from taskcluster.runs.checkpoints import load
from taskcluster.runs.folder import RunFolder, drop_checkpoint
from taskcluster.training.experiment import objectives, prepare
from taskcluster.validation import UserError

Train = Callable[..., Outcome]

pytestmark = pytest.mark.usefixtures("undrawn")

COMPILED = (*SMALL, "trainer.compile=aot_eager", "hydra.run.dir=compiled")


def training_batches(data: SequenceDataModule) -> TrainingBatches:
    drawn = data.train_rows, data.n_rows, data.weights, data.seed, bare_trainer(), data.padding, data.fixed_shape
    return TrainingBatches(*drawn)


def gradients(network: PreTrainedModel, loss: Tensor) -> list[Tensor]:
    """The loss and its gradient."""
    network.zero_grad()
    loss.backward()
    return [loss.detach(), *(p.grad for p in network.parameters() if p.grad is not None)]


@pytest.fixture(autouse=True)
def compiled_once() -> Iterator[None]:
    """An update that would be compiled again is an error."""
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield


def test_a_compiled_run_equals_an_eager_one_up_to_rounding(taskcluster_train: Train, trained: RunFolder) -> None:
    assert "compiled" in taskcluster_train(*COMPILED).output()
    run = RunFolder(Path("compiled"))
    for row, eager in zip(timeless(run), timeless(trained), strict=True):
        assert row.keys() == eager.keys()
        assert row["val/loss"] == pytest.approx(eager["val/loss"], abs=1e-4)
    one, other = (load(saved.checkpoint(6))["state_dict"] for saved in (run, trained))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)  # and the same names


@pytest.mark.slow
def test_a_compiled_run_resumes_to_the_bit(taskcluster_train: Train) -> None:
    assert taskcluster_train(*COMPILED).exit_code == 0
    whole, run = RunFolder(Path("compiled")), RunFolder(Path("resumed"))
    shutil.copytree(whole.path, run.path)
    drop_checkpoint(run.checkpoint(6))
    for file in (run.journal, run.training):
        kept = [line for line in file.read_text().splitlines(True) if json.loads(line)["step"] <= 4]
        file.write_text("".join(kept))
    run.write_status("interrupted")
    assert "resumes after step 4" in taskcluster_train(*COMPILED[:-1], "hydra.run.dir=resumed").output()
    assert_identical(whole, run)


@pytest.mark.parametrize(
    "overrides",
    [
        ("objective=answer", "data.layout=sequences"),
        pytest.param(("objective=[answer,bottleneck,detached]",), marks=pytest.mark.slow),
        pytest.param(("model=llama", "data.layout=padded", "trainer.precision=bf16-true"), marks=pytest.mark.slow),
        pytest.param(("model=gpt_neox",), marks=pytest.mark.slow),
    ],
)
def test_loss_and_gradient_are_the_eager_ones(overrides: tuple[str, ...]) -> None:
    data, network = prepare(config := RunConfig.of(composed(*SMALL, "trainer.compile=aot_eager", *overrides)))
    asked, batches = objectives(config, data, network), training_batches(data)
    compiled = asked.compiled("aot_eager")
    for step in range(3):
        expected, found = (gradients(network, loss(network, batches[step], step)) for loss in (asked.loss, compiled))
        torch.testing.assert_close(found, expected)


def test_a_network_that_is_not_one_graph_is_refused() -> None:
    data, network = prepare(config := RunConfig.of(composed(*SMALL)))
    network.transformer.h[0].register_forward_hook(lambda *_: torch._dynamo.graph_break())
    with pytest.raises(UserError, match=r"^trainer\.compile='aot_eager': torch cannot compile the loss \(.+\); leave"):
        objectives(config, data, network).compiled("aot_eager")(network, training_batches(data)[0], 0)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("trainer.compile=inductor",), "trainer.compile='inductor'"),
        (("trainer.compile=reduce-overhead",), "needs a GPU; choose default, or leave it out"),
        (
            ("trainer.compile=reduce-overhead", "trainer.accumulate_grad_batches=2"),
            "cannot add up gradients, and accumulate_grad_batches=2; choose default, or 1",
        ),
        (
            ("trainer.compile=default", "objective=[next_token,pull]", "objective.pull.layers=[1]"),
            "cannot compile an objective that reads hidden",
        ),
    ],
)
def test_what_it_cannot_do_is_refused(taskcluster_train: Train, overrides: tuple[str, ...], sentence: str) -> None:
    assert sentence in taskcluster_train(*SMALL, *overrides).refusal()
    assert not [*Path("outputs").rglob("config.yaml")]
