"""TensorBoard's files in RUN/tensorboard, rewritten from the run folder at every start."""

import shutil
from importlib.util import find_spec
from typing import Any

from taskcluster.operations.tracking.mirror import Mirror
from taskcluster.runs.journal import Row
from taskcluster.validation import UserError
from taskcluster.views import headlines


class TensorBoardMirror(Mirror):
    """One scalar a metric, those that matter most also as custom scalars, and the figures at the end.

    Raises UserError where TensorBoard is not installed.
    """

    title = "TensorBoard"

    def __init__(self, **known: Any) -> None:
        if find_spec("tensorboard") is None:
            raise UserError('TensorBoard is not installed; pip install "taskcluster-lm[tensorboard]", or logger=none')
        super().__init__(**known)

    def start(self) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to load

        folder = self._run.path / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = SummaryWriter(str(folder))
        self._laid_out = False
        self.replay()

    def add(self, step: int, row: Row) -> None:
        if not self._laid_out and (first := headlines(self._run.catalogue(), row)):
            self._writer.add_custom_scalars({"overview": {key: ["Multiline", [key]] for key in first}})
            self._laid_out = True
        for name, value in row.items():
            self._writer.add_scalar(name, value, step)

    def add_conclusion(self) -> None:
        import numpy as np
        from PIL import Image

        for file in sorted(self._run.figures.glob("*.png")):
            with Image.open(file) as image:
                self._writer.add_image(f"figures/{file.stem}", np.array(image.convert("RGB")), dataformats="HWC")

    def close(self) -> None:
        self._writer.close()
