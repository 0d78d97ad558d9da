"""The configuration that comes with the package: its folder, and the options of its groups."""

from pathlib import Path
from typing import Any

import yaml

PACKAGE = Path(__file__).parents[1]
CONF = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir())  # in a wheel, in a checkout


def options(group: str) -> list[str]:
    """The names of a group's options, in alphabetical order."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def option(group: str, name: str) -> Any:
    """Return the content of an option's file, with unresolved references; {} if the file does not exist."""
    file = CONF / group / f"{name}.yaml"
    return yaml.safe_load(file.read_bytes()) if file.is_file() else {}
