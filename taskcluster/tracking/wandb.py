"""A W&B run for every run folder: kept up to date while it trains, and complete at its end, or whenever it is uploaded.

Training never waits for the server: what there is to say goes to a thread. Where the server does not answer at the
start, the folder gets an offline segment that holds the whole run. That is for a server that does not know the run, as
`wandb sync` adds to what is there. `python -m taskcluster.tracking.upload` gives any server what it lacks, and no more.
"""

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveFloat
from rich.console import Console

from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import Row
from taskcluster.tracking import identity
from taskcluster.tracking.mirror import Mirror, in_a_line, metrics_of, rows_of
from taskcluster.validation import UserError, validated

if TYPE_CHECKING:
    from taskcluster.tracking.session import Session

OVERTIME = 4.0  # seconds for what wandb does before and after the uploads that it limits itself


class WandbMirror(Mirror):
    """Keys: see conf/logger/wandb.yaml. Raises UserError for an id in the environment that W&B would refuse."""

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
        self._mode, self._patience = mode, patience
        self._place = {"project": project, "entity": entity}
        self._described: dict[str, Any] = {
            "name": name,
            "group": group,
            "job_type": job_type,
            "notes": notes,
            "tags": tags,
        }
        self._checkpoints = checkpoints
        self.given_id = identity.given() if mode != "disabled" else None
        self._own_id = run.status().get("id") or token_hex(4)
        self._session: Session | None = None
        self._pending: tuple[int, Row] | None = None  # the newest step, of which more may come
        self._concluded = False
        self._trouble = ""

    def open(self) -> None:
        if self._mode != "disabled":
            self._courier = ThreadPoolExecutor(1, "wandb")
            self.survives("W&B: off", self._begin)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self._session and step is not None:
            if self._pending and self._pending[0] != step:
                self._send(partial(self._session.log, *self._pending))
                self._pending = None
            _, row = self._pending or (step, {})
            self._pending = step, {**row, **metrics_of(metrics)}

    def conclude(self) -> None:
        self._concluded = True
        if self._session and self._pending:
            self._send(partial(self._session.conclude, *self._pending))
            self._pending = None

    def finish(self, exit_code: int) -> None:
        """Within `patience` seconds and a few more."""
        if self._session:
            self.survives("W&B: not all of it arrived", partial(self._end, exit_code))

    def upload(self) -> None:
        """Bring the server up to date with a folder that nobody trains in. Raises UserError where it cannot be."""
        from taskcluster.tracking import account

        if reason := account.hindrance():
            raise UserError(f"W&B cannot be used: {reason}")
        self._mode = "online"
        finished = self._run.status()["state"] == "finished"
        self.open()
        if finished:
            self.conclude()
        self.finish(0 if finished else 1)

    def _begin(self) -> None:
        from taskcluster.tracking import account

        mode = account.mode() if self._mode == "auto" else self._mode
        if mode == "disabled":
            return
        reason = account.hindrance() if mode == "online" else "as asked for"
        if not reason:
            try:
                session = self._session = self._connect(online=True)
                self.note(f"W&B: online at {session.address}")
                return
            except identity.Taken:
                account.leave()
                self._run.write_status(self._run.status()["state"], id=self._own_id)
                raise
            except Exception as error:
                reason = in_a_line(error)
                account.leave()
        if any(self._run.path.glob(f"wandb/run-*-{self._run.status()['id']}")):  # the server may know a part of it
            account.leave()
            self.note(f"W&B: away ({reason}); {self._remedy()}")
            return
        session = self._session = self._connect(online=False)
        self.note(f"W&B: offline ({reason}); `wandb sync {session.folder}` uploads it")

    def _remedy(self) -> str:
        return f"`python -m taskcluster.tracking.upload {self._run.path}` uploads what it lacks"

    def _connect(self, online: bool) -> "Session":
        """A session that has all of the folder's rows but the last, which is pending."""
        from taskcluster.tracking.session import Session

        if online and self.given_id:
            self._refuse_taken()
        session = Session(
            self._run, self._config, online, self._patience, self._checkpoints, **self._place, **self._described
        )
        if online:
            self._run.write_status(self._run.status()["state"], wandb=session.path)
        rows = rows_of(self._run)
        for row in rows[:-1]:
            session.log(*row, charts=False)
        self._pending = rows[-1] if rows else None
        for outdated in self._run.path.glob("wandb/offline-run-*"):  # uploaded too, its rows would be there twice
            if outdated != Path(session.folder):
                shutil.rmtree(outdated, ignore_errors=True)
        return session

    def _refuse_taken(self) -> None:
        """Raise Taken where the id that the environment names is that of a run with another configuration."""
        from taskcluster.tracking import account

        there = account.config_of(f"{account.place(**self._place)}/{self.given_id}")
        if keys := identity.differing(self._config, there):
            said = f"{identity.RUN_ID}={self.given_id} is a run with another {keys[0]}"
            raise identity.Taken(f"{said}; unset it, or choose an id for each run")

    def _send(self, action: Callable[[], None]) -> None:
        def deliver() -> None:
            try:
                action()
            except Exception as error:
                self._trouble = self._trouble or in_a_line(error)

        self._courier.submit(deliver)

    def _end(self, exit_code: int) -> None:
        from taskcluster.tracking import account

        session, self._session = self._session, None
        assert session
        if self._pending and self._is_covered(self._pending[0]):
            self._send(partial(session.log, *self._pending))
        self._send(partial(session.finish, exit_code))
        done = self._courier.submit(session.arrived)
        try:
            if not done.result(self._patience + OVERTIME) and not self._trouble:
                self._trouble = "the server does not have every row"
        except TimeoutError:
            self._trouble = self._trouble or "the server does not answer"
        except Exception as error:
            self._trouble = self._trouble or in_a_line(error)
        finally:
            self._courier.shutdown(wait=False, cancel_futures=True)
            account.leave()
        if self._trouble:
            self.note(f"W&B: not all of it arrived ({self._trouble}); {self._remedy()}")

    def _is_covered(self, step: int) -> bool:
        """Whether nothing more will come of a step: there is a checkpoint after it, or one of it with its measurement.
        Otherwise the run resumes before it, or measures it first, and W&B, where no row can be changed, is to get it
        whole then."""
        return any(saved > step or file == self._run.checkpoint(step) for saved, file in self._run.saved())
