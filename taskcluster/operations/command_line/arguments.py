"""Parse command lines: a parser for taskcluster's commands, error sentences, and values quoted for Hydra.

in:  the arguments as typed
out: overrides in Hydra's grammar; or one sentence that says what to write
"""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from taskcluster.runs.records import text
from taskcluster.validation import UserError


class Parser(argparse.ArgumentParser):
    """A parser that reports mistakes in one sentence, without its usage, and accepts no abbreviated options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        say(self.prog, f"{message}; see --help")
        sys.exit(2)


def say(program: str, sentence: str) -> None:
    """Print an error sentence on standard error, in one line, with the program's name."""
    print(f"{program}: {text(sentence)}", file=sys.stderr, flush=True)


@contextmanager
def refusing(program: str) -> Iterator[None]:
    """A context in which a user's mistake ends the command: one sentence, and exit code 2."""
    try:
        yield
    except UserError as error:
        say(program, str(error))
        sys.exit(2)


def readable(word: str) -> str:
    """Quote the values of an override that Hydra's grammar cannot parse, such as the path of a run (`seed=0`) or a
    template in braces; commas separate values, as in a sweep.

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
