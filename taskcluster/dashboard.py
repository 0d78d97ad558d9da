"""taskcluster-dashboard: the live page over run folders."""

import argparse
import errno
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn

from taskcluster import environment
from taskcluster.arguments import Parser, say
from taskcluster.pages.vega import Vega
from taskcluster.validation import UserError
from taskcluster.watch.server import HOST, Dashboard, application, names

PORT = 8642


def main() -> None:
    environment.prepare()
    arguments = _arguments(sys.argv[1:])
    vega = Vega()
    try:
        sys.exit(_serve(arguments, vega))
    except UserError as refusal:
        _report(str(refusal))
        sys.exit(2)
    finally:
        vega.close()


def _serve(arguments: argparse.Namespace, vega: Vega) -> int:
    """Answer until a signal; return the exit code that shells give it."""
    root = _root(arguments.root)
    listening = _listen(arguments.host, arguments.port)
    address = listening.getsockname()[0]
    if not ipaddress.ip_address(address).is_loopback:
        reach = f"anyone who can reach port {arguments.port} there can read these runs"
        _report(f"{address} is not a loopback address: {reach}")
    dashboard = Dashboard(root, vega)
    app = application(dashboard, [*names(arguments.host, address), *arguments.allow_host])
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    )
    received: list[int] = []

    def end(number: int, _: object) -> None:
        received.append(number)
        server.should_exit = True

    # Set before uvicorn's own, which begin with its event loop; shells start background jobs with SIGINT ignored. After
    # closing, uvicorn raises the signals it received once more.
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=dashboard.warm_up, daemon=True).start()
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    print(f"http://{host}:{listening.getsockname()[1]}/ shows the runs below {root}; Ctrl-C ends it", flush=True)
    server.run(sockets=[listening])
    return 128 + received[0]


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} of {host} is in use; choose another with --port") from None
        reason = error.strerror if isinstance(error, OSError) else "no name"
        raise UserError(f"--host={host} --port={port} cannot be listened on: {reason}") from None
    return listening


def _root(given: str) -> Path:
    root = Path(given)
    if not root.is_dir():
        reason = "is a file" if root.exists() else "does not exist"
        raise UserError(f"{given} {reason}; name the folder that holds the runs, such as multirun or outputs")
    if not os.access(root, os.R_OK | os.X_OK):
        raise UserError(f"{given} cannot be read; name a folder that you may read")
    return root.resolve()


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="taskcluster-dashboard",
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
    parser.add_argument("--port", type=_port, default=PORT, help=f"default: {PORT}; 0 takes one that is free")
    return parser.parse_args(given)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; choose one from 1024 to 65535")
    return int(text)


def _host(text: str) -> str:
    """A name as a Host header has it, without the port."""
    below = text.startswith("*.")
    name = text.removeprefix("*.")
    with suppress(ValueError):
        name = f"[{ipaddress.IPv6Address(name)}]"  # which a header has in brackets
    with suppress(UnicodeError):
        name = name.encode("idna").decode()
    found = HOST.fullmatch(name)
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the name of a host, such as hub.example.org or *.example.org"
        )
    return f"*.{found[1]}" if below else found[1]


def _report(sentence: str) -> None:
    say("taskcluster-dashboard", sentence)


if __name__ == "__main__":
    main()
