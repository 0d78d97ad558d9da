"""A W&B run for every run folder, with a row for every step of metrics.jsonl and training.jsonl, once.

online    resumed under the same id; rows that the server has are left out
offline   a new segment at every start, which holds the whole run; `wandb sync` uploads it, once
later     `python -m taskcluster.operations.tracking.upload RUN` uploads what the server lacks
"""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import psutil
import wandb
from pydantic import PositiveFloat
from rich.console import Console

from taskcluster.operations.tracking.mirror import Mirror, in_a_line
from taskcluster.results.claims import judged
from taskcluster.runs import names
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import Row
from taskcluster.validation import validated
from taskcluster.views import headlines

STEP = "step"  # the axis of every metric

SECONDS = 3  # that the server has for an answer
SECONDS_TO_LEAVE = 4  # that wandb's own process has to end

SILENT = wandb.Settings(silent=True)

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # errors would be reported to wandb's makers

# wandb-core gives a request up after a number of attempts, drops all rows that follow, and reports success at the end.
# With these a server that is away for a night has what it missed soon after it is back.
PERSISTENCE: dict[str, Any] = {
    "x_file_stream_retry_max": 1_000_000,
    "x_file_stream_retry_wait_max_seconds": 2,
    "x_file_stream_timeout_seconds": 30,
    "x_graphql_retry_max": 1_000_000,
    "x_graphql_retry_wait_max_seconds": 2,
    "x_graphql_timeout_seconds": 30,
    "x_file_transfer_retry_wait_max_seconds": 2,
}


class WandbMirror(Mirror):
    """Keys: see conf/logger/wandb.yaml."""

    title = "W&B"

    @validated
    def __init__(
        self,
        run: RunFolder,
        config: dict[str, Any],
        console: Console,
        project: str,
        entity: str | None,
        mode: Literal["auto", "online", "offline", "disabled"],
        tags: list[str],
        checkpoints: Literal["none", "final", "all"],
        patience: PositiveFloat,
        name: str | None = None,
        group: str | None = None,
        job_type: str = "train",
        notes: str | None = None,
    ) -> None:
        super().__init__(run, config, console)
        self._mode = wandb.setup(SILENT).settings.mode if mode == "auto" else mode
        self._active = self._mode != "disabled"
        self._checkpoints, self._patience = checkpoints, patience
        self._described: dict[str, Any] = {
            "project": project,
            "entity": entity,
            "name": name or run.name[:128],
            "group": group or names.group(config, run.path),
            "job_type": job_type,
            "notes": notes,
            "tags": tags,
        }
        self.given_id = (os.environ.get("WANDB_RUN_ID") or None) if self._active else None
        self.remedy = f"`python -m taskcluster.operations.tracking.upload {run.path}` uploads what is missing"
        self._held: tuple[int, Row] | None = None

    def start(self) -> None:
        reason = "as requested" if self._mode in ("offline", "dryrun") else self._connect()
        if reason and any(self._run.path.glob(f"wandb/run-*-{self._run.status()['id']}")):
            self._active = False  # the server may have a part of the run, and `wandb sync` would add all of it
            self.note(f"W&B: away ({reason}); {self.remedy}")
            return
        if reason:
            self._init("offline")
            self.note(f"W&B: offline ({reason}); `wandb sync {self._wandb.settings.sync_dir}` uploads it")
        for segment in self._run.path.glob("wandb/offline-run-*"):
            if segment != Path(self._wandb.settings.sync_dir):
                shutil.rmtree(segment, ignore_errors=True)
        self.replay()

    def _connect(self) -> str:
        """Start online; return why that failed, "" if it did not."""
        reason = hindrance()
        if not reason:
            try:
                self._init("online")
                self._run.write_status(self._run.status()["state"], wandb=self._wandb.path)
                self.note(f"W&B: online at {self._wandb.url}")
                return ""
            except Exception as error:
                reason = in_a_line(error)
        with leaving():  # or an offline run could not be started
            return reason

    def _init(self, mode: Literal["online", "offline"]) -> None:
        status = self._run.status()
        self._wandb = wandb.init(
            mode=mode,
            dir=self._run.path,
            id=status["id"],
            resume="allow" if mode == "online" else None,
            config={**self._config, "versions": status["starts"][-1]["versions"]},
            reinit="finish_previous",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,  # it would describe the working directory; the versions already name ours
                disable_code=True,
                init_timeout=5,
                finish_timeout=self._patience,
                finish_timeout_raises=True,
                x_transaction_log_flush_interval=1,
                **PERSISTENCE,
            ),
            **self._described,
        )
        self._wandb.define_metric("*", step_metric=STEP, hidden=True)
        self._shown: set[str] = set()

    def add(self, step: int, row: Row) -> None:
        """Hold the newest step back, as more of it may come and rows of W&B cannot be changed. That of an interrupted
        run is sent when the run resumes."""
        before, held = self._held or (step, {})
        if before != step:
            self._send(before, held)
            held = {}
        self._held = step, {**held, **row}

    def _send(self, step: int, row: Row) -> None:
        for key in {
            *headlines(self._run.catalogue(), row)
        } - self._shown:  # the only ones that get a panel by themselves
            self._wandb.define_metric(key, step_metric=STEP)
            self._shown.add(key)
        if step >= self._wandb.starting_step:  # what comes before is there already
            self._wandb.log({**row, STEP: step}, step=step, commit=True)

    def add_conclusion(self) -> None:
        if self._held:
            step, row = self._held
            figures = {f"figures/{file.stem}": wandb.Image(str(file)) for file in self._run.figures.glob("*.png")}
            self._send(step, {**row, **figures})
        if claims := judged(self._run.results()):
            passed = [claim["passed"] for claim in claims]
            counts = {"claims_passed": passed.count(True), "claims_undecided": passed.count(None)}
            self._wandb.summary.update({"claims": {claim["name"]: claim for claim in claims}, **counts})
        if self._checkpoints != "none":
            for _, file in self._run.saved()[-1 if self._checkpoints == "final" else 0 :]:
                artifact = wandb.Artifact(f"checkpoints-{self._wandb.id}", "model")
                artifact.add_file(str(file))
                self._wandb.log_artifact(artifact, aliases=[file.stem.replace("=", "-"), "latest"])

    def close(self) -> None:
        self._wandb.finish(0 if self._run.status()["state"] == "finished" else 1)

    def __exit__(self, *_: object) -> None:
        with leaving(self._patience + SECONDS_TO_LEAVE):
            super().__exit__()


def hindrance() -> str:
    """Return why W&B cannot be reached now, "" if it can; without a prompt, in about SECONDS. wandb looks up the mode,
    the server and the key, in its usual places."""
    os.environ.setdefault("WANDB_HTTP_TIMEOUT", str(SECONDS))
    settings = wandb.setup(SILENT).settings
    settings.mode = "online"  # wandb.login would only warn in another
    try:
        return "" if wandb.login(prompt=False, verify=True) else "no API key"
    except Exception as error:
        reason = " ".join(str(error).split())
        return f"no answer from {settings.base_url}" if "did not respond" in reason else reason


@contextmanager
def leaving(seconds: float = SECONDS_TO_LEAVE) -> Iterator[None]:
    """A context at whose end wandb's own process ends, so that the next run can be online or offline as it likes.

    After `seconds` that process is killed, and waiting code continues: if the server hangs, the process may never end.
    """
    killer = threading.Timer(seconds, _kill_core)
    killer.daemon = True
    killer.start()
    try:
        yield
    finally:
        with suppress(Exception, SystemExit):  # the exit code of a process that was killed
            wandb.teardown()
        killer.cancel()


def _kill_core() -> None:
    for child in psutil.Process().children():
        if child.name() == "wandb-core":
            child.kill()
