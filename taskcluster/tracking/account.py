"""Whether W&B can be used from here, found out without a prompt and in seconds.

wandb's own lookups decide: of the mode (WANDB_MODE, `wandb offline`), of the server (WANDB_BASE_URL, `wandb login
--host`) and of the key (WANDB_API_KEY, netrc, settings).
"""

import os

import wandb

SECONDS = 3  # that the server has for an answer

SILENT = wandb.Settings(silent=True)


def mode() -> str:
    """online, offline or disabled: what the user asks of wandb in general."""
    chosen = str(wandb.setup(SILENT).settings.mode)
    return {"dryrun": "offline", "run": "online", "shared": "online"}.get(chosen, chosen)


def server() -> str:
    return str(wandb.setup(SILENT).settings.base_url)


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
