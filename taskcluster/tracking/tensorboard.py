"""TensorBoard's files in RUN/tensorboard, rewritten from the run folder at every start."""

import shutil
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rich.console import Console

from taskcluster.runs.folder import RunFolder
from taskcluster.tracking.mirror import Mirror, metrics_of, rows_of
from taskcluster.validation import UserError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

GIVEN_UP = "TensorBoard: its files are no longer updated"


class TensorBoardMirror(Mirror):
    """One scalar a metric, and the figures at the end. Raises UserError where TensorBoard is not installed."""

    def __init__(self, run: RunFolder, config: Mapping[str, Any], console: Console) -> None:
        if find_spec("tensorboard") is None:
            raise UserError('TensorBoard is not installed; pip install "taskcluster-lm[tensorboard]", or logger=none')
        super().__init__(run, config, console)
        self._writer: SummaryWriter | None = None

    def open(self) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to load

        def begin() -> None:
            folder = self._run.path / "tensorboard"
            shutil.rmtree(folder, ignore_errors=True)
            self._writer = SummaryWriter(str(folder))
            for step, row in rows_of(self._run):
                self._add(row, step)

        self._attempt(begin)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self._writer:
            self._attempt(lambda: self._add(metrics, step))

    def conclude(self) -> None:
        def add() -> None:
            import numpy as np
            from PIL import Image

            assert self._writer
            for file in sorted(self._run.figures.glob("*.png")):
                with Image.open(file) as image:
                    self._writer.add_image(f"figures/{file.stem}", np.array(image.convert("RGB")), dataformats="HWC")

        if self._writer:
            self._attempt(add)

    def finish(self, exit_code: int) -> None:
        if self._writer:
            self._attempt(self._writer.close)

    def _add(self, row: Mapping[str, Any], step: int | None) -> None:
        assert self._writer
        for name, value in metrics_of(row).items():
            self._writer.add_scalar(name, value, step)

    def _attempt(self, action: Callable[[], None]) -> None:
        if not self.survives(GIVEN_UP, action):
            self._writer = None
