"""The live page over run folders. Only reads, and needs no network.

Below any prefix, since a proxy may add one; the page itself only uses relative addresses:

GET /                  the page; /NAME.js, /NAME.css beside it: files of taskcluster/pages
GET /vega-VERSION.js   Vega, Vega-Lite and vega-embed
GET /charts            the charts of the metrics that the runs have; see live_charts.py
GET /view?since=V      all runs and conditions, and the curves that are newer than version V; see `Dashboard.view`
GET /runs/ID/tsne      the t-SNE of a finished run
"""

import base64
import hashlib
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from taskcluster.metrics import Catalogue
from taskcluster.operations.live.live import is_plain
from taskcluster.operations.live.watcher import Watcher
from taskcluster.pages.vega import VERSION, library
from taskcluster.results.conditions import short_names
from taskcluster.runs.records import text
from taskcluster.views import shown

PAGES = Path(__file__).parents[2] / "pages"
PAGE = (PAGES / "dashboard.html").read_text(encoding="utf-8")
KINDS = {".js": "text/javascript", ".css": "text/css"}
LIBRARY = f"vega-{VERSION}.js"
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[0-9a-z_.-]+)(?::[0-9]+)?", re.IGNORECASE)  # as a browser sends it
ADDRESS = re.compile(r"[0-9.]+|\[[0-9a-f:.]+\]")  # which no web site has for a name
FRESH = 0.25  # seconds for which one look at the folders serves every page that asks

# Only what this server sends may run, load or be sent; no other page may frame or read it. The page's one inline script
# adds the slash without which its relative addresses would lead elsewhere.
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
    """What the server answers about the runs below `root`."""

    def __init__(self, root: Path) -> None:
        self._watcher = Watcher(root)
        self._lock, self._charting = threading.RLock(), threading.Lock()
        self._looked = -FRESH

    def routes(self) -> list[Route]:
        answers = {
            "": _file(PAGE.replace("LIBRARY", LIBRARY), "text/html"),
            **{
                path.name: _file(path.read_text(encoding="utf-8"), KINDS[path.suffix])
                for path in PAGES.iterdir()
                if path.suffix in KINDS
            },
            LIBRARY: self.library,
            "charts": lambda _: _json(self.charts()),
            "view": lambda request: _json(self.view(request.query_params.get("since", "0"))),
            "runs/{id}/tsne": self.tsne,
        }
        return [Route(f"{prefix}/{name}", answer) for name, answer in answers.items() for prefix in ("", "/{_:path}")]

    def library(self, request: Request) -> Response:
        forever = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(library(), media_type="text/javascript", headers=forever)

    def charts(self) -> bytes:
        """`live_charts` as JSON."""
        from taskcluster.pages.live_charts import live_charts  # only now: importing Altair takes most of a second

        with self._charting:
            return orjson.dumps(live_charts(tuple(self._scanned().catalogue.values())))

    def view(self, since: str) -> bytes:
        """{"version", "root", "metrics": keys of all, "columns": the metrics of the table, "runs", "conditions": each
        {"id", "sweep", "label", "runs": ids}, "curves": {id of a condition: `Curves.encoded`}}; only the version if
        nothing is newer than `since`.
        """
        if not re.fullmatch("[0-9]{1,15}", since):
            raise HTTPException(400, "since: a version")
        with self._lock:  # a scan in between would change what is read
            watcher = self._scanned()
            view: dict[str, Any] = {"version": watcher.version}
            if watcher.version != int(since):
                view |= _whole(watcher, int(since))
        return orjson.dumps(view)

    def tsne(self, request: Request) -> Response:
        run = self._watcher.run(request.path_params["id"])
        file = run and run.figures / "tsne.json"
        if not file or not is_plain(file):
            raise HTTPException(404, "no t-SNE")
        return _json(file.read_bytes())

    def _scanned(self) -> Watcher:
        with self._lock:
            if time.monotonic() - self._looked >= FRESH:
                self._watcher.scan()
                self._looked = time.monotonic()
        return self._watcher


def application(dashboard: Dashboard, names: Sequence[str]) -> Starlette:
    """names: the server's host names, where "*.NAME" matches all subdomains. Requests for other names are refused:
    otherwise a page of any web site could point its name here (DNS rebinding) and read a server on this machine.
    Addresses are always accepted.
    """
    allowed = {name.lower() for name in ("localhost", *names)}

    async def guard(request: Request, answer: RequestResponseEndpoint) -> Response:
        parts = HOST.fullmatch(request.headers.get("host", ""))
        host = parts[1].lower() if parts else ""
        above = {"*" + host[k:] for k, sign in enumerate(host) if sign == "."}
        if ADDRESS.fullmatch(host) or not allowed.isdisjoint({host, *above} - {""}):
            response = await answer(request)
        else:
            remedy = f": start taskcluster-dashboard with --allow-host {host} if this is its address" if host else ""
            response = PlainTextResponse(f"Invalid host header{remedy}", 400)
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    compressed = Middleware(GZipMiddleware, minimum_size=1000, compresslevel=1)
    app = Starlette(routes=dashboard.routes(), middleware=[Middleware(BaseHTTPMiddleware, dispatch=guard), compressed])
    app.router.redirect_slashes = False  # to an address that a proxy would not know
    return app


def _whole(watcher: Watcher, since: int) -> dict[str, Any]:
    labels = [text(condition.label) for condition, _ in watcher.conditions.values()]
    short = dict(zip(labels, short_names(labels), strict=True))
    return {
        "root": text(str(watcher.root)),
        "metrics": [*watcher.catalogue],
        "columns": _columns(watcher.catalogue),
        "runs": [
            asdict(live) | {"values": dict(live.values), "trend": [round(value, 4) for value in live.trend]}
            for live in watcher.runs()
        ],
        "conditions": [
            {"id": id, "sweep": text(condition.sweep), "label": short[text(condition.label)]}
            | {"runs": [run.live.id for run in condition.runs]}
            for id, (condition, _) in watcher.conditions.items()
        ],
        "curves": {
            id: orjson.Fragment(curves.encoded)
            for id, (_, curves) in watcher.conditions.items()
            if curves.version > since
        },
    }


def _columns(known: Catalogue) -> list[dict[str, Any]]:
    """The metrics of the table; "trend": whether a column shows the curve of a run, as `Live.trend` has it."""
    metrics = shown(known, "runs")
    first = next((metric for metric in metrics if metric.by_layer), None)
    return [
        {"key": metric.key, "name": f"{metric.short}, last layer" if metric.by_layer else metric.short}
        | {"low": metric.low, "high": metric.high, "trend": metric is first}
        for metric in metrics
    ]


def _file(content: str, kind: str) -> Callable[[Request], Response]:
    return lambda _: Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json", headers={"Cache-Control": "no-store"})
