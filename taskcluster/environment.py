"""What every command needs of the process that it runs in."""

import os
import pwd

from taskcluster import streams


def prepare() -> None:
    """Guard the standard streams, and name a home and a user where the system knows none, as in a container that runs
    under any user id: libraries ask for both when they are imported, and end the process without an answer.

    The home is then `/`, as in a login without one: nothing is found there, and nobody else can put anything there.
    """
    streams.guard()
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("HOME", "/")
        os.environ.setdefault("USER", str(os.getuid()))
