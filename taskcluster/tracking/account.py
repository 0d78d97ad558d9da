"""Whether W&B can be used from here, found out without a prompt and in seconds; and how it is left in seconds.

wandb's own lookups decide: of the mode (WANDB_MODE, `wandb offline`), of the server (WANDB_BASE_URL, `wandb login
--host`) and of the key (WANDB_API_KEY, netrc, settings).
"""

import os
import threading
from contextlib import suppress
from typing import Any

import psutil
import wandb
from wandb.errors import CommError

SECONDS = 3  # that the server has for an answer

LEAVING = 4  # seconds that wandb's own process has for its end

SILENT = wandb.Settings(silent=True)

# wandb's makers would be told of errors, and a server that hangs would be waited for.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")


def mode() -> str:
    """online, offline or disabled: what the user asks of wandb in general."""
    chosen = str(wandb.setup(SILENT).settings.mode)
    return {"dryrun": "offline", "run": "online", "shared": "online"}.get(chosen, chosen)


def server() -> str:
    return str(wandb.setup(SILENT).settings.base_url)


def place(entity: str | None, project: str | None) -> str:
    """ENTITY/PROJECT that a run goes to: under a sweep's agent the sweep's."""
    settings = wandb.setup(SILENT).settings
    if settings.sweep_id:
        entity, project = settings.entity, settings.project or project
    return "/".join(filter(None, (entity, project)))


def config_of(path: str) -> dict[str, Any]:
    """The configuration of a W&B run, {} for one that is not there."""
    try:
        return dict(wandb.Api(timeout=SECONDS).run(path).config)
    except (ValueError, CommError) as error:
        if "Could not find" in str(error):
            return {}
        raise


def hindrance() -> str:
    """What keeps this machine from using W&B just now, "" for nothing. Takes SECONDS, and not much more, at most."""
    os.environ.setdefault("WANDB_HTTP_TIMEOUT", str(SECONDS))
    settings = wandb.setup(SILENT).settings
    settings.mode = "online"  # wandb.login would only warn in another
    try:
        return "" if wandb.login(prompt=False, verify=True) else "no API key"
    except Exception as error:  # whatever it is, it is not worth a run
        said = " ".join(str(error).split())
        return f"no answer from {server()}" if "did not respond" in said else said or type(error).__name__


def leave() -> None:
    """End wandb's own process, whose next run would be as online or offline as this one. It is killed if it does not
    end, which it may never do by itself while a server hangs; whoever waits for it then continues, too.
    """

    def end() -> None:
        with suppress(SystemExit):  # with the exit code of a process that was killed
            wandb.teardown()

    own = [child for child in psutil.Process().children() if child.name() == "wandb-core"]
    ending = threading.Thread(target=end, daemon=True)
    ending.start()
    ending.join(LEAVING)
    if ending.is_alive():
        for process in own:
            process.kill()
        ending.join(LEAVING)
