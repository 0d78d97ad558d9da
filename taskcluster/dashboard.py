"""taskcluster-dashboard: the live page over run folders."""

import argparse
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from taskcluster.operations.command_line.arguments import Parser, refusing, say
from taskcluster.operations.live.server import HOST, Dashboard, application
from taskcluster.operations.processes import environment
from taskcluster.validation import UserError

PROGRAM = "taskcluster-dashboard"
PORT = 8642


def main() -> None:
    environment.prepare()
    arguments = parse(sys.argv[1:])
    try:
        with refusing(PROGRAM):
            _serve(arguments)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog=PROGRAM,
        description="Show runs on a live web page, while they train. Reads their journals, writes nothing.",
    )
    parser.add_argument("root", nargs="?", default="multirun", help="folder of runs and sweeps (default: multirun)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    parser.add_argument(
        "--allow-host", type=_host, action="append", default=[], metavar="NAME",
        help="answer under this name too, as a proxy asks for it: hub.example.org, or *.example.org for every name "
        "below example.org. Can be repeated",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}; 0 picks a free port")
    return parser.parse_args(words)


def runs_below(root: str) -> Path:
    """The folder to watch. Raises UserError for anything but a folder that can be read."""
    if not os.path.isdir(root):
        reason = "is a file" if os.path.exists(root) else "does not exist"
        raise UserError(f"{root} {reason}; name the folder that contains the runs, such as multirun or outputs")
    if not os.access(root, os.R_OK | os.X_OK):
        raise UserError(f"{root} cannot be read; choose a folder that you can read")
    return Path(root).resolve()


def _serve(arguments: argparse.Namespace) -> None:
    """Serve until a signal, which uvicorn raises again once it has closed."""
    root = runs_below(arguments.root)
    listening = _listen(arguments.host, arguments.port)
    address, port = listening.getsockname()[:2]
    if not ipaddress.ip_address(address).is_loopback:
        reach = f"anyone who can reach port {port} there can read these runs"
        say(PROGRAM, f"{address} is not a loopback address: {reach}")
    dashboard = Dashboard(root)
    app = application(dashboard, [arguments.host, socket.gethostname(), socket.getfqdn(), *arguments.allow_host])
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    settings = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    threading.Thread(target=dashboard.charts, daemon=True).start()  # before the first request
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    print(f"http://{host}:{port}/ shows the runs below {root}; Ctrl-C ends it", flush=True)
    uvicorn.Server(settings).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host={host} --port={port}: {reason}; choose another host or port") from None


def _host(text: str) -> str:
    """A name as a Host header has it, without the port."""
    parts = HOST.fullmatch(text.removeprefix("*."))
    if not parts:
        raise argparse.ArgumentTypeError(f"{text!r} is not a host name such as hub.example.org or *.example.org")
    return "*." * text.startswith("*.") + parts[1]


if __name__ == "__main__":
    main()
