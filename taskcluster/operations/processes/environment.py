"""What every command needs of the process that it runs in."""

import os
import pwd
import sys

from taskcluster.operations.processes import streams


def prepare() -> None:
    """Guard the standard streams, and give names to what libraries ask for. Called first by every command.

    In a locale that knows ASCII alone the command starts again in Python's UTF-8 mode, as names of files and arguments
    would not be text. In a container that runs under any user id, the system knows no user and no home: both get a
    name, as libraries ask for them when they are imported.
    """
    if sys.getfilesystemencoding() == "ascii":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    streams.guard()
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("HOME", "/")  # where nobody else can put anything
        os.environ.setdefault("USER", str(os.getuid()))
