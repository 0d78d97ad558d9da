"""The environment of a run: recorded at every start, compared when it resumes."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from taskcluster import __version__

RECORDED = ("torch", "pytorch-lightning", "transformers", "scikit-learn", "numpy", "rstr", "wandb")


def surroundings(device: torch.device) -> dict[str, Any]:
    """Return everything besides the configuration that the bits of a result may depend on."""
    return {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            "taskcluster-lm": __version__,
            **{name: version(name) for name in RECORDED},
            **_commit(),
        },
    }


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return a sentence about differences from the last start, "" without any."""
    old, new = ({**start, **start.get("versions", {}), "versions": None} for start in (before, now))
    differing = ", ".join(
        f"{key} {new[key]} (before: {old.get(key)})"
        for key in ("device", "threads", "machine", *now["versions"])
        if old.get(key) != new[key]
    )
    return differing and f"this run resumes with {differing}: its last digits may differ from an uninterrupted run's"


def _commit() -> dict[str, str]:
    """{"commit": "0123456789ab"}, with "-dirty" behind it for changed files, of the checkout that this code runs from,
    {} where it is installed or git does not say."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return {}
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return {"commit": subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=2).decode().strip()}
    except (OSError, subprocess.SubprocessError):
        return {}


def _processor() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    described = Path("/proc/cpuinfo")
    models = (
        re.findall(r"^model name\s*: (.+)$", described.read_text(encoding="utf-8"), re.M) if described.exists() else []
    )
    return models[0] if models else platform.processor() or "unknown processor"
