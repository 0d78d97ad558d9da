"""What every command needs of the process that it runs in."""

import os
import pwd
import sys

from taskcluster import streams


def prepare() -> None:
    """Guard the standard streams, and settle what libraries and files are named by. Called first by every command.

    In a locale that knows ASCII alone (LC_ALL=C without Python's UTF-8 mode) the command starts again in that mode:
    otherwise names of files and arguments would not be text.

    Where the system knows no user and no home, as in a container that runs under any user id, both get a name, as
    libraries ask for them when they are imported. The home is then `/`, as in a login without one: nobody else can put
    anything there.
    """
    if sys.getfilesystemencoding() == "ascii" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    streams.guard()
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("HOME", "/")
        os.environ.setdefault("USER", str(os.getuid()))
