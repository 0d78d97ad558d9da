"""What the files of a run folder hold, checked when they are read: they may have been cut, edited or replaced.

in:  the path of config.yaml, catalogue.json, status.json or results.json
out: its content, whose keys, where they are there, are of the types given here
"""

import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, TypeAdapter, ValidationError

from taskcluster.metrics import OWN, Catalogue, Metric, catalogue
from taskcluster.validation import UserError, sentences

LARGEST = 2**53  # whole numbers that every reader of JSON has

Count = Annotated[int, Field(ge=0, lt=LARGEST)]

NESTED = 1000  # brackets and dashes: more might be nested deeper than libyaml's recursion has stack for

# The same YAML, read ten times as fast where libyaml is there.
FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Trainer(_Record):
    max_steps: Count | None = None


class Config(_Record):
    trainer: _Trainer = _Trainer()
    seeds: dict[str, Any] = {}
    logger: dict[str, Any] = {}


class _FinishedTrainer(_Trainer):
    max_steps: Count


class FinishedConfig(Config):
    """Of a run that has finished, as far as every run has it."""

    seed: Any
    trainer: _FinishedTrainer


class Start(_Record):
    time: str = ""
    step: Count = 0
    max_steps: Count | None = None
    steps: list[Count] = []
    machine: str = ""
    device: str = ""
    threads: NonNegativeInt = 0
    versions: dict[str, Any] = {}


class Status(_Record):
    state: Literal["running", "finished", "interrupted", "failed"]
    id: str | None = None
    error: str | None = None
    step: Count | None = None
    wall_seconds: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    starts: list[Start] = []
    weights: dict[Annotated[str, Field(pattern=r"^\d+$")], str] = {}
    copies: list[list[Count]] = []


class _FinishedStart(Start):
    time: str
    max_steps: Count
    machine: str
    device: str
    threads: NonNegativeInt
    versions: dict[str, Any]


class FinishedStatus(Status):
    """Of a run that has finished, which has all of it."""

    wall_seconds: Annotated[FiniteFloat, Field(ge=0)]
    starts: Annotated[list[_FinishedStart], Field(min_length=1)]  # type: ignore[assignment]


class Claim(_Record):
    name: str
    paper: str
    value: float | None
    relation: Literal["<", ">"]
    threshold: float
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    undecided: str = ""
    passed: bool | None


class Results(_Record):
    claims: list[Claim]
    final: dict[str, float | str | None]
    controls: dict[str, list[list[float | None]]] = {}


class Declared(BaseModel):
    metrics: Annotated[list[Metric], Field(min_length=1)]


def declared(record: Mapping[str, Any]) -> Catalogue:
    """The catalogue that a Declared record holds; the package's own metrics where there is none."""
    return {m.key: m for m in Declared.model_validate(record).metrics} if record else catalogue(OWN)


def contents(file: Path) -> bytes | None:
    """The bytes of a file, None where there is none. Raises UserError for anything but a readable file."""
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise IsADirectoryError
            return opened.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        raise UserError(f"{file} is not a file; move it away, or choose another folder") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); choose another folder") from None


def read(file: Path, model: type[BaseModel]) -> dict[str, Any]:
    """A record, {} where there is no file. Raises UserError for a file that is damaged or not what `model` says."""
    content = contents(file)
    return {} if content is None else parsed(content, file, model)


def parsed(content: bytes, file: Path, model: type[BaseModel]) -> dict[str, Any]:
    """The same for what a file holds."""
    parse: Callable[[bytes], Any] = json.loads if file.suffix == ".json" else _yaml
    record = None
    with suppress(ValueError, yaml.YAMLError, RecursionError):
        record = parse(content)
    if not isinstance(record, dict):
        raise UserError(f"{file} is damaged; restore it, or choose another folder")
    check(record, file, model)
    return record


def check(record: Mapping[str, Any], file: Path, model: type[BaseModel]) -> None:
    """Raise UserError where a record is not what `model` says."""
    try:
        TypeAdapter(model).validate_python(record)
    except ValidationError as error:
        first = sentences(error).split("; ")[0]
        raise UserError(f"{file} is damaged ({first}); restore it, or choose another folder") from None


def text(name: str) -> str:
    """A name of the file system, or what a file says, on one line and as every encoder takes it."""
    return "".join(c if c.isprintable() else "?" for c in re.sub(r"\s", " ", name))


def _yaml(content: bytes) -> Any:
    nested = sum(content.count(sign) for sign in (b"[", b"{", b"- ", b"? "))
    record = yaml.load(content, FastLoader if nested < NESTED else yaml.SafeLoader)
    try:
        json.dumps(record, sort_keys=True)  # what JSON cannot hold, we did not write and cannot compare
    except TypeError as error:
        raise ValueError from error
    return record
