"""The live page over run folders: what runs write, while they write it. Only reads, and needs no network.

Below any prefix, since a proxy may add one; the page itself only uses relative addresses:

GET /                  the page; /NAME.js, /NAME.css beside it: files of taskcluster/pages
GET /vega-VERSION.js   Vega, Vega-Lite and vega-embed
GET /charts            chart specifications without points; see vega.py
GET /changes?since=V   what is new after version V; see `_changes` for its shape
GET /runs/ID/tsne      the t-SNE that a run left
"""

import base64
import hashlib
import ipaddress
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from secrets import token_hex
from typing import Any

import orjson
import psutil
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskcluster.pages.vega import VERSION, Vega
from taskcluster.results.intervals import FEWEST
from taskcluster.watch.files import is_plain, read_plain
from taskcluster.watch.watcher import Curves, Live, Watcher

PAGES = Path(__file__).parents[1] / "pages"
PAGE = (PAGES / "dashboard.html").read_text(encoding="utf-8")
KINDS = {".js": "text/javascript", ".css": "text/css"}
LIBRARY = f"vega-{VERSION}.js"
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[0-9a-z_.-]+)(?::[0-9]+)?", re.IGNORECASE)  # as a browser sends it
FRESH = 0.25  # seconds for which one look at the folders serves every page that asks
LARGEST_TSNE = 64 * 2**20  # bytes

# Nothing but what this server sends may run, load or be sent; no other page may frame or read it. The page's one inline
# script adds the slash without which its relative addresses would lead elsewhere.
INLINE = [hashlib.sha256(code.encode()).digest() for code in re.findall("<script>(.*?)</script>", PAGE, re.DOTALL)]
SCRIPTS = " ".join(["'self'", *(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in INLINE)])
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    f"script-src-elem {SCRIPTS}; connect-src 'self'; img-src 'self' data: blob:; style-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Dashboard:
    """What the server answers. epoch: tells the page that versions count from another beginning."""

    def __init__(self, root: Path, vega: Vega) -> None:
        self.epoch = token_hex(4)
        self._watcher = Watcher(root)
        self._vega = vega
        self._lock = threading.Lock()
        self._looked = -FRESH
        self._whole = 0, b""

    def warm_up(self) -> None:
        """Read the folders before anybody asks."""
        self._scan()
        self._everything()

    def routes(self) -> list[Route]:
        answers = {
            "": _file(PAGE.replace("LIBRARY", LIBRARY), "text/html"),
            **{
                path.name: _file(path.read_text(encoding="utf-8"), KINDS[path.suffix])
                for path in PAGES.iterdir()
                if path.suffix in KINDS
            },
            LIBRARY: self.library,
            "charts": lambda _: _json(self._vega.charts()),
            "changes": self.changes,
            "runs/{id}/tsne": self.tsne,
        }
        return [Route(f"{prefix}/{name}", answer) for name, answer in answers.items() for prefix in ("", "/{_:path}")]

    def library(self, request: Request) -> Response:
        forever = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(self._vega.script(), media_type="text/javascript", headers=forever)

    def changes(self, request: Request) -> Response:
        since = request.query_params.get("since", "0")
        if not (since.isascii() and since.isdigit() and len(since) < 16):
            raise HTTPException(400, "since: a version")
        same = request.query_params.get("epoch") == self.epoch
        self._scan()
        return _json(self._changes(int(since)) if same and int(since) else self._everything())

    def tsne(self, request: Request) -> Response:
        run = self._watcher.run(request.path_params["id"])
        file = run and run.figures / "tsne.json"
        if not file or not is_plain(file) or file.stat().st_size > LARGEST_TSNE:
            raise HTTPException(404, "no t-SNE")
        try:
            content = json.loads(read_plain(file))
            n_tasks = int(content["n_tasks"])
            points = [
                {key: int(point[key]) for key in ("step", "layer", "task")} | {key: float(point[key]) for key in "xy"}
                for point in content["points"]
            ]
            return _json(_encoded({"n_tasks": n_tasks, "points": points}))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError, OSError):
            raise HTTPException(404, "the t-SNE is damaged") from None

    def _changes(self, since: int) -> bytes:
        """{"epoch", "root", "version", "metrics": null if they are as before, "runs": ids in order, "changed_runs",
        "conditions": ids in order, "changed_conditions", "curves"}; only the first three where nothing changed.
        """
        changes = self._watcher.changes(since)
        whole = {
            "epoch": self.epoch,
            "root": str(self._watcher.root).encode(errors="replace").decode(),
            "version": changes.version,
        }
        if changes.version != since:
            runs, curves = map(_run, changes.changed_runs), map(_packed, changes.curves)
            whole |= changes._asdict() | {"changed_runs": list(runs), "curves": list(curves)}
        return _encoded(whole)

    def _everything(self) -> bytes:
        """The same for a page that knows nothing yet, made once a version."""
        if self._whole[0] != self._watcher.version or not self._whole[1]:
            self._whole = self._watcher.version, self._changes(0)
        return self._whole[1]

    def _scan(self) -> None:
        with self._lock:
            if time.monotonic() - self._looked >= FRESH:
                self._watcher.scan()
                self._looked = time.monotonic()


class Headers:
    """Adds HEADERS to every answer, refusals too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                added = HEADERS if b"cache-control" in there else HEADERS | {"Cache-Control": "no-store"}
                message["headers"] += [(name.lower().encode(), value.encode()) for name, value in added.items()]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Hosts:
    """Refuses what asks for another name than `names`; of "*.NAME" everything below it is one. A page of another name
    that leads here, which is how a web site would read what listens on this machine alone, gets nothing.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str]) -> None:
        self._app = app
        self._names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        found = HOST.fullmatch(given[0]) if len(given) == 1 else None
        host = found[1].lower() if found else ""
        above = {"*" + host[k:] for k, sign in enumerate(host) if sign == "."}
        if host and not self._names.isdisjoint({host, *above}):
            await self._app(scope, receive, send)
            return
        remedy = f": start taskcluster-dashboard with --allow-host {host} if this is its address" if host else ""
        await PlainTextResponse(f"Invalid host header{remedy}", 400)(scope, receive, send)


def application(dashboard: Dashboard, hosts: Sequence[str]) -> Starlette:
    """hosts: names under which the server may be asked for; see `Hosts`."""
    middleware = [
        Middleware(Headers),
        Middleware(Hosts, names=hosts),
        Middleware(GZipMiddleware, minimum_size=1000, compresslevel=1),
    ]
    app = Starlette(routes=dashboard.routes(), middleware=middleware)
    app.router.redirect_slashes = False  # to an address that a proxy would not know
    return app


def names(host: str, address: str) -> list[str]:
    """What the server may be called: this machine's names for itself, and all its addresses if it listens on them."""
    own = ["127.0.0.1", "localhost", "[::1]", "::1", host, f"[{host}]", address]
    if ipaddress.ip_address(address).is_unspecified:
        found = [a.address.partition("%")[0] for cards in psutil.net_if_addrs().values() for a in cards]
        own += [socket.gethostname(), socket.getfqdn(), *found, *(f"[{name}]" for name in found if ":" in name)]
    return own


def _run(live: Live) -> dict[str, Any]:
    return asdict(live) | {"values": dict(live.values), "trend": [round(value, 4) for value in live.trend]}


def _packed(curves: Curves) -> dict[str, Any]:
    """Without what repeats: n is one number for a step at which all curves have the same, and means of few runs have no
    bounds.
    """
    several = any(n >= FEWEST for counts in curves.n for n in counts)
    bounds = {} if several else {"lower": None, "upper": None}
    return curves._asdict() | {"n": [n[0] if len({*n}) == 1 else n for n in curves.n]} | bounds


def _file(content: str, kind: str) -> Callable[[Request], Response]:
    return lambda _: Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})


def _encoded(content: Any) -> bytes:
    return orjson.dumps(content)


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json", headers={"Cache-Control": "no-store"})
