"""The words of a command line: a parser for our own commands, what is said of mistakes, and values that Hydra can read.

in:  the words as they were typed
out: overrides in Hydra's grammar; or one sentence that says what to write
"""

import argparse
import os
import sys
from typing import Any, NoReturn

from taskcluster.runs.records import text
from taskcluster.validation import UserError


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


def readable(word: str) -> str:
    """An override with quotes around a value that Hydra's grammar has no place for, as the path of a run (`seed=0`) or
    a template in braces; commas separate values, as in a sweep.

    Raises UserError for a word that is not an override.
    """
    key, equals, value = word.partition("=")
    if not word.startswith("~") and not (key.strip("+ ") and equals):
        raise UserError(f"{word!r} is not an override; write KEY=VALUE, without spaces around the equals sign")
    if not value or value[0] in "'\"[" or _parsed(word):
        return word
    values = [value] if value[0] == "{" else value.split(",")
    return f"{key}={','.join(quoted(os.path.expanduser(one)) for one in values)}"


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
