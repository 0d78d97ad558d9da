"""The environment of a run: recorded at every start, compared when it resumes."""

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from taskcluster import __version__

RECORDED = ("torch", "pytorch-lightning", "transformers", "scikit-learn", "numpy", "rstr", "wandb")


def surroundings(device: torch.device) -> dict[str, Any]:
    """Whatever the bits of a result may depend on beside the configuration."""
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
    """A sentence about what is different from the last start, "" for nothing."""
    pairs = [(key, before.get(key), now[key]) for key in ("device", "threads", "machine")]
    pairs += [(name, before.get("versions", {}).get(name), number) for name, number in now["versions"].items()]
    told = ", ".join(f"{name} {new} (before: {old})" for name, old, new in pairs if old != new)
    return told and f"this run resumes with {told}: its last digits may differ from an uninterrupted run's"


def _commit() -> dict[str, str]:
    """{"commit": "0123456789ab"}, with "-dirty" behind it for changed files, of the checkout that this code runs from,
    {} where it is installed or git does not say."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return {}
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        described = subprocess.run(command, capture_output=True, check=True, timeout=2).stdout
        return {"commit": described.decode().strip()}
    except (OSError, subprocess.SubprocessError):
        return {}


def _processor() -> str:
    if torch.accelerator.is_available() and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown processor")
