"""The words of a command line: what a program says of wrong ones, and how ours become those that Hydra reads.

in:  the words as they were typed
out: overrides, then flags; or one sentence that says what to write
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from taskcluster.runs.records import text
from taskcluster.validation import UserError, did_you_mean

# Keys of paths. What follows `=` is the path as it is, whatever Hydra's grammar would make of it.
PATHS = ("ckpt_path", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
TEXT = "data.template"  # a key whose value may begin with a brace and be no dictionary
ABSOLUTE = ("ckpt_path", "hydra.sweep.dir")  # whatever folder a job runs in

COMMANDS = ("--run", "--multirun", "--cfg", "--info", "--shell-completion")

OVERRIDE = re.compile(r"([+]{0,2})([^=~+][^=]*)=(.*)", re.DOTALL)
FUNCTION = re.compile(
    r"(choice|range|interval|glob|sort|shuffle|tag|extend_list|int|float|str|bool|json_str)\(.*\)", re.DOTALL
)


class Parser(argparse.ArgumentParser):
    """One that answers what is wrong in one sentence, without its usage, and takes no abbreviated options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        say(self.prog, f"{message}; see --help")
        sys.exit(2)


def say(program: str, sentence: str) -> None:
    """On standard error and in one line, as every program of ours says what is wrong."""
    print(f"{program}: {text(sentence)}", file=sys.stderr, flush=True)


def arranged(words: Sequence[str], flags: Sequence[argparse.Action]) -> list[str]:
    """The command for Hydra's parser, which takes overrides on one side of its flags only.

    Raises UserError for a flag or an override that cannot be one.
    """
    overrides, chosen = _split(words, {name: flag for flag in flags for name in flag.option_strings})
    names = [flag.option_strings[0] for flag, _ in chosen]
    commands = [name for name in names if name in COMMANDS]
    if len(set(commands)) > 1:
        raise UserError(f"{commands[0]} and {commands[1]} exclude each other; leave one of them out")
    if "--resolve" in names and not {"--cfg", "--help"} & set(names):
        raise UserError("--resolve belongs to --cfg; write --cfg job --resolve")
    for name in names:
        if names.count(name) > 1 and name.startswith("--config"):
            more = "; add further folders with hydra.searchpath=[FOLDER]" if name == "--config-dir" else ""
            raise UserError(f"{name} is given {names.count(name)} times; give it once{more}")
    several = "--multirun" in names or "hydra.mode=MULTIRUN" in overrides
    return [readable(word, several) for word in overrides] + [word for _, part in chosen for word in part]


def _split(
    words: Sequence[str], flags: dict[str, argparse.Action]
) -> tuple[list[str], list[tuple[argparse.Action, list[str]]]]:
    """Overrides; and flags, each with its words."""
    overrides: list[str] = []
    chosen: list[tuple[argparse.Action, list[str]]] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return overrides + rest, chosen
        if not word.startswith("-"):
            overrides.append(word)
            continue
        name, given, value = word.partition("=")
        if name not in flags:
            raise UserError(f"{name} is not an option{did_you_mean(name, flags)}; see --help")
        flag = flags[name]
        if flag.nargs == 0:
            if given:
                raise UserError(f"{name} takes no value; write {name}")
            chosen.append((flag, [name]))
            continue
        takes_next = flag.nargs != "?" or (bool(rest) and rest[0] in (flag.choices or ()))
        if not given and rest and not rest[0].startswith("-") and takes_next:
            given, value = "=", rest.pop(0)
        if given or flag.nargs != "?":
            _check(flag, value)
            chosen.append((flag, [flag.option_strings[0], _place(flag, value)]))
        else:
            chosen.append((flag, [name]))
    return overrides, chosen


def _check(flag: argparse.Action, value: str) -> None:
    name = flag.option_strings[0]
    if not value:
        example = flag.choices[0] if flag.choices else flag.dest.rpartition("_")[2].upper()  # type: ignore[index]
        raise UserError(f"{name} needs a value; write {name} {example}")
    if flag.choices and value not in flag.choices:
        choices = ", ".join(flag.choices)
        raise UserError(f"{name} {value} is not an option{did_you_mean(value, flag.choices)}; choose from {choices}")
    if name == "--config-dir" and not Path(value).is_dir():
        reason = "is not a folder" if Path(value).exists() else "does not exist"
        raise UserError(f"--config-dir {value} {reason}; give the folder that holds your groups, such as task/")


def _place(flag: argparse.Action, value: str) -> str:
    """A path as seen from here: Hydra would look beside the package's own files."""
    return os.path.abspath(value) if flag.dest == "config_path" and "://" not in value else value


def readable(word: str, several: bool) -> str:
    """An override as Hydra's grammar has it: values that it would not read are quoted, and a key may be added that is
    there already. several: in a multirun.

    Raises UserError for a word that is not an override.
    """
    if word.startswith("~") and len(word) > 1:
        return word
    if not (parts := OVERRIDE.fullmatch(word)):
        raise UserError(f"{word!r} is not an override; write KEY=VALUE, without spaces around the equals sign")
    sign, key, value = parts.groups()
    if sign == "+" and "." in key:
        sign, word = "++", f"+{word}"
    if key in PATHS:
        return f"{sign}{key}={_path(key, value, several)}"
    if _parsed(word) or not value or value[0] in "'\"[" or (value[0] == "{" and key != TEXT):
        return word
    values = value.split(",") if several and key != TEXT else [value]
    return f"{sign}{key}={','.join(map(quoted, values))}"


def quoted(value: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(value, Quote.single).with_quotes()


def _parsed(word: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        OverridesParser.create().parse_overrides([word])
    except OverrideParseException:
        return False
    return True


def _path(key: str, value: str, several: bool) -> str:
    if not value:
        raise UserError(f"{key}= is empty; give a path")
    if FUNCTION.fullmatch(value) or (key == "ckpt_path" and value == "null"):
        return value
    if whole := re.fullmatch(r"(['\"])((?:(?!\1|\\).)*)\1", value, re.DOTALL):
        value = whole[2]
    elif value[0] in "'\"":
        return value
    if key != "ckpt_path":
        return quoted(_from_here(key, value))
    return ",".join(quoted(_from_here(key, path)) for path in _files(value, several))


def _from_here(key: str, path: str) -> str:
    path = os.path.expanduser(path)
    return path if path.startswith("${") or key not in ABSOLUTE else os.path.abspath(path)


def _files(value: str, several: bool) -> list[str]:
    """The files that a value names, which may hold commas themselves: those that exist, or else every part."""
    parts = value.split(",")

    def existing(first: int) -> list[str] | None:
        if first == len(parts):
            return []
        for last in range(len(parts), first, -1):
            file = ",".join(parts[first:last])
            if os.path.isfile(os.path.expanduser(file)) and (others := existing(last)) is not None:
                return [file, *others]
        return None

    return [value] if "${" in value else existing(0) or (parts if several else [value])
