"""A W&B backend on this machine, which the real client initializes, resumes, logs, syncs and uploads against.

What it answers is a reading of the protocol, not W&B's own server. It can drop connections, hang and refuse keys, and
says what it holds.
"""

import gzip
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import unquote

Mode = Literal["up", "down", "hanging", "refusing keys"]

ACCOUNT = {"id": "u", "entity": "me", "username": "me", "email": "", "flags": "{}", "admin": False}
KEY = "0123456789abcdef" * 3  # looks like one


@dataclass
class Run:
    """What the server holds of a run. described: name, group, tags, ... as the client named them."""

    id: str
    described: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[Any] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.history]

    def bucket(self) -> dict[str, Any]:
        """As GraphQL answers it."""
        return {
            "id": f"bucket-{self.id}",
            "name": self.id,
            "displayName": self.described["displayName"],
            "description": "",
            "config": json.dumps(self.config),
            "wandbConfig": json.dumps({"t": 1}),
            "summaryMetrics": json.dumps(self.summary),
            "project": project(self.described["project"]),
            "historyLineCount": len(self.history),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps(self.history[-1:]),
            "eventsTail": "[]",
            "tags": [],
            "notes": "",
            "sweepName": None,
            "state": "running" if self.exit_code is None else "finished",
        }


def project(name: str) -> dict[str, Any]:
    return {"id": f"project-{name}", "name": name, "entity": {"id": "me", "name": "me"}}


class WandbServer:
    """Listens on a port of its own, from the beginning of a `with` block to its end.

    mode: how requests are met from now on. runs: by id.
    """

    def __init__(self) -> None:
        self.mode: Mode = "up"
        self.runs: dict[str, Run] = {}
        self.lock = threading.RLock()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.wandb = self
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def environment(self) -> dict[str, str]:
        """Variables that lead a client here."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}

    def __enter__(self) -> "WandbServer":
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.mode = "down"
        self._http.shutdown()
        self._http.server_close()

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any] | None:
        """The data of a GraphQL query or mutation, None for one that is not known."""
        match operation:
            case "Viewer":
                return {"viewer": {**ACCOUNT, "teams": {"edges": []}}}
            case "ServerFeaturesQuery":
                return {"serverInfo": {"features": []}}
            case "OrganizationCoreWeaveOrganizationID":
                return {"entity": {"organization": None}}
            case "RunResumeStatus":
                run = self.runs.get(given["name"])
                return {"model": {**project(given["project"]), "bucket": run.bucket() if run else None}}
            case "UpsertBucket":
                return self._upsert(given)
            case "CreateRunFiles":
                address = f"{self.url}/file/{given['run']}"
                files = [{"name": file, "uploadUrl": f"{address}/{file}"} for file in given["files"]]
                return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}
        return None

    def _upsert(self, given: dict[str, Any]) -> dict[str, Any]:
        inserted = given["name"] not in self.runs
        run = self.runs.setdefault(given["name"], Run(given["name"], {"displayName": given["name"]}))
        run.described |= {key: value for key, value in given.items() if value}
        run.config |= json.loads(given.get("config") or "{}")
        run.summary |= json.loads(given.get("summaryMetrics") or "{}")
        return {"upsertBucket": {"bucket": run.bucket(), "inserted": inserted}}

    def stream(self, run: Run, content: dict[str, Any]) -> None:
        """Lines go where their offset says, over what is there."""
        for name, chunk in (content.get("files") or {}).items():
            if name == "wandb-summary.json":
                run.summary = json.loads(chunk["content"][-1])
            elif name == "wandb-history.jsonl":
                first = chunk["offset"]
                run.history.extend([None] * (first - len(run.history)))
                run.history[first : first + len(chunk["content"])] = chunk["content"]
        if content.get("complete"):
            run.exit_code = content.get("exitcode") or 0


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # clients upload much at once
    wandb: WandbServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: clients break connections when they end."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def do_POST(self) -> None:
        body, server = self._body(), self.server.wandb
        if not self._meets():
            return
        if self.path == "/graphql":
            asked = json.loads(body)
            named = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            with server.lock:
                data = server.answer(named[1] if named else "", asked.get("variables") or {})
            unknown = {"data": None, "errors": [{"message": "not known here"}]}
            self._answer(200, unknown if data is None else {"data": data})
        elif streamed := re.match(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            with server.lock:
                server.stream(server.runs[streamed[1]], json.loads(body))
            self._answer(200, {"exitcode": None, "limits": {}})
        else:
            self._answer(404, {})

    def do_PUT(self) -> None:
        body = self._body()
        if self._meets():
            _, _, run, name = self.path.split("/", 3)
            self.server.wandb.runs[run].files[unquote(name)] = body
            self._answer(200, {})

    def do_GET(self) -> None:
        if self._meets():
            self._answer(404, {})

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def _meets(self) -> bool:
        """Whether the request is to be answered, once the server does not hang."""
        while self.server.wandb.mode == "hanging":
            time.sleep(0.02)
        mode = self.server.wandb.mode
        if mode == "refusing keys":
            self._answer(401, {"errors": [{"message": "invalid API key"}]})
        if mode == "down":
            self.close_connection = True
        return mode == "up"

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
