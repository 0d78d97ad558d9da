"""Ctrl-C ends a run even where its exception is swallowed, as happens in destructors and in callbacks from C."""

import signal
import threading
from types import FrameType
from typing import Any

import pytorch_lightning as pl


class InterruptCallback(pl.Callback):
    """A context in which Ctrl-C is remembered: KeyboardInterrupt is raised again after the batch, should it still run.

    Without effect outside the main thread, where Python delivers no signals.
    """

    def __enter__(self) -> None:
        self._asked = False
        self._in_charge = threading.current_thread() is threading.main_thread()
        if self._in_charge:
            self._previous = signal.signal(signal.SIGINT, self._remember)

    def __exit__(self, *_: Any) -> None:
        if self._in_charge:
            signal.signal(signal.SIGINT, self._previous)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        raise KeyboardInterrupt
