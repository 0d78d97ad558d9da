"""TensorBoard's files in RUN/tensorboard, rewritten from the run folder at every start."""

import shutil
from importlib.util import find_spec
from typing import Any

from taskcluster.operations.tracking.mirror import Mirror
from taskcluster.runs.journal import SPLITS, Row
from taskcluster.validation import UserError
from taskcluster.views import headlines, shown

FIRST = "Overview"  # TensorBoard sorts sections by name, capitals first


class TensorBoardMirror(Mirror):
    """A first section with the curves that matter most, then one curve a metric; all layers of a metric in one chart as
    custom scalars; what was measured once as a text, and the figures at the end.

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
        self._headlines: list[str] = []
        self._single: dict[str, tuple[int, float]] = {}  # metrics with one step so far, which makes no curve
        self._curves: set[str] = set()
        self.replay()

    def add(self, step: int, row: Row) -> None:
        if not self._headlines and (first := headlines(self._run.catalogue(), row)):
            self._headlines = first
            self._writer.add_custom_scalars({"layers": self._charts(row)})
        for name, value in row.items():
            if name not in self._curves:
                before = self._single.setdefault(name, (step, value))
                if before[0] == step:
                    continue
                del self._single[name]
                self._curves.add(name)
                self._point(name, *before)
            self._point(name, step, value)

    def _charts(self, row: Row) -> dict[str, list[Any]]:
        """Of each curve by layer one chart, as the tab "Custom Scalars" takes them: by patterns of names."""
        metrics = shown(self._run.catalogue(), "curves", by_layer=True)
        stems = [metric.stem(split) for metric in metrics for split in SPLITS]
        return {
            stem: ["Multiline", [rf"^{stem}/layer_\d+$"]]
            for stem in stems
            if any(k.startswith(f"{stem}/layer_") for k in row)
        }

    def _point(self, name: str, step: int, value: float) -> None:
        self._writer.add_scalar(name, value, step)
        if name in self._headlines:
            self._writer.add_scalar(f"{FIRST}/{name}", value, step)

    def add_conclusion(self) -> None:
        import numpy as np
        from PIL import Image

        if self._single:
            lines = [f"| {name} | {step} | {value:.4g} |" for name, (step, value) in sorted(self._single.items())]
            self._writer.add_text(
                "measured once", "\n".join(["| metric | step | value |", "| --- | --- | --- |", *lines])
            )
        for file in sorted(self._run.figures.glob("*.png")):
            with Image.open(file) as image:
                self._writer.add_image(f"figures/{file.stem}", np.array(image.convert("RGB")), dataformats="HWC")

    def close(self) -> None:
        self._writer.close()
