"""Whether W&B can be used from here, found out without a prompt and in seconds; and how it is left in seconds.

wandb's own lookups decide: of the mode (WANDB_MODE, `wandb offline`), of the server (WANDB_BASE_URL, `wandb login
--host`) and of the key (WANDB_API_KEY, netrc, settings).
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import wandb

SECONDS = 3  # that the server has for an answer
SECONDS_TO_LEAVE = 4  # that wandb's own process has to end

SILENT = wandb.Settings(silent=True)

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # errors would be reported to wandb's makers


def hindrance() -> str:
    """Why W&B cannot be used now, "" if it can. Takes about SECONDS at most."""
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

    After `seconds` that process is killed, and whatever waits for it continues: with a server that hangs it may never
    end by itself.
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
