"""One W&B run as this process has it: begun, brought up to date from the run folder, fed, and finished.

What goes there: a row of history for every step of metrics.jsonl and training.jsonl, once; charts of the curves of all
layers and maps of layer and step, redrawn as the run grows; and at the end the figures, the verdict and, if asked for,
checkpoints.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import wandb

from taskcluster.metrics import LOSS, mapped, shown
from taskcluster.runs import names
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import SPLITS, Row, number
from taskcluster.runs.verdicts import judged
from taskcluster.tracking import account
from taskcluster.tracking.tiles import tiles

STEP = "step"  # the axis of every metric

JUDGED = ("value", "relation", "threshold", "passed")  # of a claim

GROWTH = 1.1  # of the measured rows until the charts are redrawn: in a long run they would fill the disk otherwise

SECONDS_TO_DRAW = 1

SECONDS_TO_BEGIN = 5

SECONDS_TO_COUNT = 2  # that a server may need to know what it has

# wandb-core gives a request up after a number of attempts, drops all rows that follow, and reports success at the end.
# A server that is away for a night is tried every few seconds instead, and has what it missed soon after it is back.
PERSISTENCE: dict[str, Any] = {
    "x_file_stream_retry_max": 1_000_000,
    "x_file_stream_retry_wait_max_seconds": 2,
    "x_file_stream_timeout_seconds": 30,
    "x_graphql_retry_max": 1_000_000,
    "x_graphql_retry_wait_max_seconds": 2,
    "x_graphql_timeout_seconds": 30,
    "x_file_transfer_retry_wait_max_seconds": 2,
}


class Session:
    """A W&B run, online or in an offline segment of its own in the folder, which then holds all of it.

    Every method may raise what wandb does, and wait as long. Belongs to one thread at a time.
    """

    def __init__(
        self,
        run: RunFolder,
        config: Mapping[str, Any],
        online: bool,
        patience: float,
        checkpoints: str,
        *,
        name: str | None,
        group: str | None,
        **described: Any,
    ) -> None:
        self._run, self._checkpoints = run, checkpoints
        self._catalogue = run.catalogue()
        status = run.status()
        self._wandb = wandb.init(
            mode="online" if online else "offline",
            dir=run.path,
            id=status["id"],
            resume="allow" if online else None,
            name=name or names.shortened(run.name),
            group=group or names.group(config, run.path),
            config={**config, "versions": status["starts"][-1]["versions"]},
            reinit="finish_previous",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,  # it would describe whatever the working directory belongs to; versions name ours
                disable_code=True,
                init_timeout=SECONDS_TO_BEGIN,
                finish_timeout=patience,
                finish_timeout_raises=True,
                x_transaction_log_flush_interval=1,
                **PERSISTENCE,
            ),
            **described,
        )
        self._wandb.define_metric("*", step_metric=STEP)
        self._measured: list[Row] = []
        self._drawn, self._rows = 0, 0
        self.first = self._wandb.starting_step  # what comes before is there already
        self.folder = self._wandb.settings.sync_dir
        self.address = self._wandb.url
        self.path = self._wandb.path

    def log(self, step: int, row: Row, charts: bool = True) -> None:
        """Add all there is of a step, unless it is there already."""
        self._rows += 1
        if LOSS.stem("val") in row:
            self._measured.append({STEP: step, **row})
        if step < self.first:
            return
        if charts and len(self._measured) >= max(1, GROWTH * self._drawn):
            self._draw(step)
        self._wandb.log({**row, STEP: step}, step=step, commit=True)

    def conclude(self, step: int, row: Row) -> None:
        """Add the last step, with the figures and up-to-date charts, and the verdict."""
        shown = {f"figures/{file.stem}": wandb.Image(str(file)) for file in sorted(self._run.figures.glob("*.png"))}
        if step >= self.first:
            self._drawn = 0
            self.log(step, {**row, **shown})
        else:  # a row that is there cannot be changed
            self._rows += 1
            self._wandb.summary.update(shown)
        if claims := judged(self._run.results()):
            verdict = {claim["name"]: {key: claim[key] for key in JUDGED} for claim in claims}
            passed = sum(claim["passed"] is True for claim in claims)
            undecided = sum(claim["passed"] is None for claim in claims)
            self._wandb.summary.update({"claims": verdict, "claims_passed": passed, "claims_undecided": undecided})
        if self._checkpoints != "none":
            self._upload([file for _, file in self._run.saved()][-1 if self._checkpoints == "final" else 0 :])

    def finish(self, exit_code: int) -> None:
        """Raises TimeoutError where not everything arrived within `patience` seconds."""
        self._wandb.finish(exit_code)

    def arrived(self) -> bool:
        """Whether the server has every row, once finished. wandb-core does not say when it was refused on the way."""
        if self._wandb.offline:
            return True
        there = wandb.Api(timeout=account.SECONDS).run(self.path)
        for _ in range(SECONDS_TO_COUNT):
            if there.historyLineCount >= self._rows:
                return True
            time.sleep(1)
            there.load(force=True)
        return False

    def _draw(self, step: int) -> None:
        """Charts into the row of this step. For each wandb asks the server whether it may, so one that does not answer
        is left alone until they are due again."""
        self._drawn, began = len(self._measured), time.monotonic()
        for name, draw in self._charts():
            with suppress(Exception):
                self._wandb.log({name: draw()}, step=step, commit=False)
            if time.monotonic() - began > SECONDS_TO_DRAW:
                return

    def _charts(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Of what was measured so far: maps, which need no answer of the server, and curves."""
        kinds = [(m, "val", "map", _map) for m in mapped(self._catalogue, "map")]
        curves = shown(self._catalogue, "curves", by_layer=True)
        kinds += [(m, split, split, _lines) for m in curves for split in SPLITS]
        for metric, split, ending, chart in kinds:
            rows = [row for row in self._measured if _layers([row], metric.stem(split))]
            if rows:  # not undefined so far, and due already
                yield f"{metric.key}_{ending}", partial(chart, rows, metric.stem(split), f"{metric.title}, {split}")

    def _upload(self, files: Sequence[Any]) -> None:
        """As versions of one artifact, the last of them `latest`."""
        for file in files:
            artifact = wandb.Artifact(f"checkpoints-{self._wandb.id}", "model")
            artifact.add_file(str(file))
            self._wandb.log_artifact(artifact, aliases=[file.stem.replace("=", "-"), "latest"])


def _lines(rows: Sequence[Row], stem: str, title: str) -> Any:
    """A line for every layer."""
    layers, steps = _layers(rows, stem), [row[STEP] for row in rows]
    names = [key.rpartition("/")[2].replace("_", " ") for key in layers]
    return wandb.plot.line_series(steps, [[row.get(key) for row in rows] for key in layers], names, title, STEP)


def _map(rows: Sequence[Row], stem: str, title: str) -> Any:
    """A tile for every layer and step: a picture of a kilobyte, where a figure with axes takes a second to draw."""
    layers = _layers(rows, stem)
    values = np.array([[number(row, key) for row in rows] for key in reversed(layers)])
    steps = ", ".join(str(row[STEP]) for row in rows)
    said = f"{title}: layers 0 (below) to {len(layers) - 1} by steps {steps}; from 0 (dark) to 1 (bright)"
    return wandb.Image(tiles(values), caption=said)


def _layers(rows: Sequence[Row], stem: str) -> list[str]:
    """The keys that any of the rows has below `stem`, layer by layer."""
    return sorted({key for row in rows for key in row if key.startswith(f"{stem}/layer_")}, key=lambda k: (len(k), k))
