"""Every shipped way to train takes real steps, with its gradients clipped."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from conftest import SMALL
from rich.console import Console

from taskcluster.config import RunConfig
from taskcluster.metrics import OWN
from taskcluster.operations.command_line.cli import composed
from taskcluster.runs.folder import RunFolder
from taskcluster.training.experiment import Experiment, language_model, measuring, prepare
from taskcluster.training.progress import quieten

CLIP = 0.01  # far below the norm of any gradient here


class Norms(pl.Callback):
    """Of the gradients that an update was made with."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        gradients = [p.grad.float().norm() for p in pl_module.parameters() if p.grad is not None]
        self.seen.append(float(torch.stack(gradients).norm()))


def norms(folder: Path, *overrides: str) -> list[float]:
    quieten()
    config, run = RunConfig.of(composed(*SMALL, "trainer.max_steps=3", *overrides)), RunFolder(folder)
    run.start(config.as_dict(), None, OWN)
    data, network = prepare(config)
    model, measurement = language_model(config, data, network), measuring(config, data, network)
    experiment = Experiment(config, run, data, model, measurement, Console(quiet=True))
    watch = Norms()
    experiment.trainer.callbacks.append(watch)  # type: ignore[attr-defined]
    experiment.fit(None, measured=-1)
    assert experiment.trainer.global_step == 3
    assert run.rows()[-1]["val/loss"] < 10
    return watch.seen


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "radam", "adafactor", "sgd"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "64-true"])
def test_every_precision_and_optimizer_trains_and_clips(tmp_path: Path, precision: str, optimizer: str) -> None:
    layout = "sequences" if precision == "bf16-mixed" else "shared_prefix"
    kind = (f"trainer.precision={precision}", f"optimizer={optimizer}", f"data.layout={layout}")
    tolerance = 0.02 if precision == "bf16-true" else 1e-4
    for norm in norms(tmp_path, *kind, f"trainer.gradient_clip_val={CLIP}"):
        assert norm == pytest.approx(CLIP, rel=tolerance)


def test_a_gradient_that_is_not_clipped_is_longer(tmp_path: Path) -> None:
    assert min(norms(tmp_path, "trainer.precision=bf16-mixed", "trainer.gradient_clip_val=null")) > 10 * CLIP


def test_accumulated_gradients_are_clipped_once_an_update(tmp_path: Path) -> None:
    batches = ("trainer.accumulate_grad_batches=2", f"trainer.gradient_clip_val={CLIP}")
    seen = norms(tmp_path, "trainer.precision=bf16-mixed", *batches)
    assert seen[1::2] == pytest.approx([CLIP] * 3, rel=1e-4)
    assert min(seen[::2]) > 10 * CLIP


def test_values_can_be_clipped_instead_of_the_norm(tmp_path: Path) -> None:
    seen = norms(tmp_path, "+trainer.gradient_clip_algorithm=value", "trainer.gradient_clip_val=1e-5")
    assert max(seen) < 1e-5 * 10_000**0.5  # of fewer than 10,000 weights
