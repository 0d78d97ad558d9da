"""Ctrl-C while training, swallowed by whatever was running."""

import os
import signal

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.demos.boring_classes import BoringModel

from taskcluster.interrupts import InterruptCallback


class Swallowing(BoringModel):
    """Is interrupted in its second step, and ignores it as a destructor would."""

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        if batch_idx == 1:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                sum(range(1_000))  # somewhere here the signal is delivered
            except KeyboardInterrupt:
                pass
        loss: torch.Tensor = self(batch).sum()
        return loss


@pytest.mark.filterwarnings("ignore")
def test_a_swallowed_interrupt_ends_the_run_after_the_batch() -> None:
    before = signal.getsignal(signal.SIGINT)
    interrupts = InterruptCallback()
    trainer = pl.Trainer(
        max_steps=50, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        limit_val_batches=0, callbacks=[interrupts],
    )  # fmt: skip
    with pytest.raises((KeyboardInterrupt, SystemExit)), interrupts:
        trainer.fit(Swallowing(), torch.utils.data.DataLoader(torch.randn(64, 32)))
    assert trainer.global_step == 2
    assert signal.getsignal(signal.SIGINT) == before
