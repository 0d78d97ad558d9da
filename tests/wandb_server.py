"""A W&B backend on this machine, which the real client initializes, resumes, logs, syncs and uploads against.

What it answers is a reading of the protocol, not W&B's own server. It can be taken down, made to hang and to refuse
keys while clients are connected, and says what it holds.
"""

import gzip
import json
import re
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import unquote

Mode = Literal["up", "down", "hanging", "refusing keys"]

ENTITY = "me"
KEY = "0123456789abcdef" * 3  # looks like one

LINES = {"wandb-history.jsonl": "history", "wandb-events.jsonl": "events", "output.log": "output"}


@dataclass
class Run:
    """What the server holds of a run. history, events and output: lines as the client sent them, in their places."""

    id: str
    project: str
    display_name: str
    group: str | None = None
    job_type: str | None = None
    notes: str | None = None
    sweep: str | None = None
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[Any] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    output: list[Any] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.history]

    def values(self) -> dict[str, Any]:
        """The configuration, without W&B's own entries."""
        return {key: entry["value"] for key, entry in self.config.items() if key != "_wandb"}

    def described(self) -> dict[str, Any]:
        """As GraphQL answers the public API."""
        keys = {"sets": [], "keys": {}, "lastStep": self.rows()[-1]["_step"] if self.history else -1}
        return {
            **self.bucket(),
            "projectId": "1",
            "group": self.group,
            "jobType": self.job_type,
            "historyKeys": keys,
            **dict.fromkeys(("commit", "createdAt", "heartbeatAt")),
            "systemMetrics": "{}",
            "user": {"name": ENTITY, "username": ENTITY},
            "readOnly": False,
        }

    def bucket(self) -> dict[str, Any]:
        """As GraphQL answers it."""
        return {
            "id": f"bucket-{self.id}",
            "name": self.id,
            "displayName": self.display_name,
            "description": "",
            "config": json.dumps(self.config),
            "wandbConfig": json.dumps({"t": 1}),
            "summaryMetrics": json.dumps(self.summary),
            "project": project(self.project),
            "historyLineCount": len(self.history),
            "eventsLineCount": len(self.events),
            "logLineCount": len(self.output),
            "historyTail": json.dumps(self.history[-1:]),
            "eventsTail": json.dumps(self.events[-1:]),
            "tags": self.tags,
            "notes": "",
            "sweepName": None,
            "state": "running" if self.exit_code is None else "failed" if self.exit_code else "finished",
        }


@dataclass
class Sweep:
    """A sweep, its configuration as YAML. trials: commands for its agents; stopped: ids of trials to be ended."""

    name: str
    config: str
    project: str
    trials: list[dict[str, Any]] = field(default_factory=list)
    stopped: set[str] = field(default_factory=set)

    def add(self, run: str, parameters: dict[str, Any]) -> None:
        values = {key: {"value": value} for key, value in parameters.items()}
        program = re.search(r"^program: (\S+)$", self.config, re.MULTILINE)
        self.trials.append({"type": "run", "run_id": run, "args": values, "program": program and program[1]})


@dataclass
class Artifact:
    """A version of a collection."""

    run: str
    collection: str
    kind: str
    aliases: list[str]
    files: dict[str, bytes] = field(default_factory=dict)
    committed: bool = False


def project(name: str) -> dict[str, Any]:
    return {"id": f"project-{name}", "name": name, "entity": {"id": ENTITY, "name": ENTITY}}


class WandbServer:
    """Listens on a port of its own, from the beginning of a `with` block to its end.

    runs: by id. sweeps: by name. views: specifications of saved workspaces by display name. operations: names of
    GraphQL's, in order.
    """

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.runs: dict[str, Run] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.views: dict[str, Any] = {}
        self.artifacts: list[Artifact] = []
        self.operations: list[str] = []
        self.lock = threading.RLock()
        self.mode: Mode = "down"
        self._listener: _Listener | None = None
        self._woken = threading.Event()

    def environment(self) -> dict[str, str]:
        """Variables that lead a client here."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}

    def __enter__(self) -> "WandbServer":
        self.turn("up")
        return self

    def __exit__(self, *_: object) -> None:
        self.turn("down")

    def turn(self, mode: Mode) -> None:
        """Change how requests are met from now on, those that hang included."""
        self.mode = mode
        self._woken.set()
        self._woken = threading.Event()
        if mode == "down" and self._listener:
            self._listener.close()
            self._listener = None
        if mode != "down" and not self._listener:
            self._listener = _Listener(self)

    def wait(self) -> None:
        """Until the mode changes."""
        self._woken.wait()

    def graphql(self, query: str, given: dict[str, Any]) -> dict[str, Any] | None:
        """The data that answers a query or mutation, None for one that is not known."""
        named = re.search(r"(?:query|mutation)\s+(\w+)", query)
        operation = named[1] if named else ""
        self.operations.append(operation)
        answer = getattr(self, f"_{operation}", None)
        return answer(given) if answer else None

    def _Viewer(self, _: Any) -> Any:  # noqa: N802  # these are named by the client
        account = {"id": "u", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}", "admin": False}
        return {"viewer": {**account, "teams": {"edges": []}}}

    _GetDefaultEntity = _Viewer

    def _ServerFeaturesQuery(self, _: Any) -> Any:  # noqa: N802
        return {"serverInfo": {"features": []}}

    def _OrganizationCoreWeaveOrganizationID(self, _: Any) -> Any:  # noqa: N802
        return {"entity": {"organization": None}}

    def _RunResumeStatus(self, given: Any) -> Any:  # noqa: N802
        run = self.runs.get(given["name"])
        return {"model": {**project(given["project"]), "bucket": run.bucket() if run else None}}

    def _Run(self, given: Any) -> Any:  # noqa: N802
        run = self.runs.get(given["name"])
        return {"project": {"run": run.described() if run else None}}

    def _UpsertBucket(self, given: Any) -> Any:  # noqa: N802
        inserted = given["name"] not in self.runs
        run = self.runs.setdefault(given["name"], Run(given["name"], given["project"], given["name"]))
        run.display_name = given.get("displayName") or run.display_name
        run.group = given.get("groupName") or run.group
        run.job_type = given.get("jobType") or run.job_type
        run.tags = given.get("tags") or run.tags
        run.notes = given.get("notes") or run.notes
        run.sweep = given.get("sweep") or run.sweep
        run.config |= json.loads(given.get("config") or "{}")
        run.summary |= json.loads(given.get("summaryMetrics") or "{}")
        return {"upsertBucket": {"bucket": run.bucket(), "inserted": inserted}}

    def _UpsertSweep(self, given: Any) -> Any:  # noqa: N802
        sweep = Sweep(f"sweep{len(self.sweeps)}", given["config"], given["projectName"])
        self.sweeps[sweep.name] = sweep
        answer = {"name": sweep.name, "project": project(sweep.project)}
        return {"upsertSweep": {"sweep": answer, "configValidationWarnings": []}}

    def _SweepWithRuns(self, given: Any) -> Any:  # noqa: N802
        sweep = self.sweeps[given["sweep"]]
        return {"project": {"sweep": {"name": sweep.name, "config": sweep.config, "runs": {"edges": []}}}}

    def _CreateAgent(self, given: Any) -> Any:  # noqa: N802
        return {"createAgent": {"agent": {"id": given["sweep"]}}}

    def _Heartbeat(self, given: Any) -> Any:  # noqa: N802
        """One trial at a time, those to be stopped while they run, and the end when there are no more."""
        sweep, running = self.sweeps[given["id"]], list(json.loads(given["runState"]))
        commands: list[dict[str, Any]] = [{"type": "stop", "run_id": run} for run in running if run in sweep.stopped]
        if not running:
            commands = [sweep.trials.pop(0) if sweep.trials else {"type": "exit"}]
        return {"agentHeartbeat": {"agent": {"id": sweep.name}, "commands": json.dumps(commands)}}

    def _CreateRunFiles(self, given: Any) -> Any:  # noqa: N802
        run = given["run"]
        files = [{"name": file, "uploadUrl": f"{self.url}/file/{run}/{file}"} for file in given["files"]]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}

    def _ArtifactType(self, _: Any) -> Any:  # noqa: N802
        return {"project": {"artifact": None}}

    def _CreateArtifact(self, given: Any) -> Any:  # noqa: N802
        asked, number = given["input"], str(len(self.artifacts))
        collection, aliases = asked["artifactCollectionName"], [alias["alias"] for alias in asked["aliases"]]
        self.artifacts.append(Artifact(asked["runName"], collection, asked["artifactTypeName"], aliases))
        sequence = {"latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": number, "state": "PENDING", "artifactSequence": sequence}}}

    def _CreateArtifactManifest(self, given: Any) -> Any:  # noqa: N802
        number = given["artifactID"]
        file = {"id": number, "uploadUrl": f"{self.url}/manifest/{number}/{given['name']}", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": number, "file": file}}}

    def _UpdateArtifactManifest(self, given: Any) -> Any:  # noqa: N802
        number = given["artifactManifestID"]
        file = {"id": number, "uploadUrl": f"{self.url}/manifest/{number}/manifest", "uploadHeaders": []}
        return {"updateArtifactManifest": {"artifactManifest": {"id": number, "file": file}}}

    def _CreateArtifactFiles(self, given: Any) -> Any:  # noqa: N802
        nodes = []
        for file in given["input"]["artifactFiles"]:
            number, name = file["artifactID"], file["name"]
            upload = {"uploadUrl": f"{self.url}/artifact/{number}/{name}", "uploadHeaders": []}
            more = {"storagePath": name, "uploadMultipartUrls": None, "artifact": {"id": number}}
            nodes.append({"node": upload | more})
        return {"createArtifactFiles": {"files": {"edges": nodes}}}

    def _CommitArtifact(self, given: Any) -> Any:  # noqa: N802
        self.artifacts[int(given["artifactID"])].committed = True
        return {"commitArtifact": {"artifact": {"digest": ""}}}

    def _UpsertView2(self, given: Any) -> Any:  # noqa: N802
        self.views[given["displayName"]] = json.loads(given["spec"])
        return {"upsertView": {"view": {"id": "view", "name": given["name"]}, "inserted": True}}

    def take(self, kind: str, owner: str, name: str, content: bytes) -> None:
        """An upload to one of the addresses that were given out."""
        if kind == "file":
            self.runs[owner].files[name] = content
        elif kind == "artifact":
            self.artifacts[int(owner)].files[name] = content

    def stream(self, run: Run, content: dict[str, Any]) -> None:
        """Lines go where their offset says, over what is there."""
        for name, chunk in (content.get("files") or {}).items():
            if name == "wandb-summary.json":
                run.summary = json.loads(chunk["content"][-1])
            elif name in LINES:
                lines, first = getattr(run, LINES[name]), chunk["offset"]
                lines.extend([None] * (first - len(lines)))
                lines[first : first + len(chunk["content"])] = chunk["content"]
        if content.get("complete"):
            run.exit_code = content.get("exitcode") or 0


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # clients upload much at once
    allow_reuse_address = True

    def __init__(self, server: WandbServer) -> None:
        self.wandb = server
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", server.port), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Stop listening, and break every connection."""
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: clients break connections when they end, and so do we."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def do_POST(self) -> None:
        body = self._body()
        if not self._meets():
            return
        server = self.server.wandb
        if self.path == "/graphql":
            asked = json.loads(body)
            with server.lock:
                data = server.graphql(asked["query"], asked.get("variables") or {})
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
        if not self._meets():
            return
        _, kind, owner, name = self.path.split("/", 3)
        with self.server.wandb.lock:
            self.server.wandb.take(kind, owner, unquote(name), body)
        self._answer(200, {})

    def do_GET(self) -> None:
        if self._meets():
            self._answer(404, {})

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def _meets(self) -> bool:
        """Whether the request is to be answered, once the server does not hang."""
        server = self.server.wandb
        while server.mode == "hanging":
            server.wait()
        if server.mode == "refusing keys":
            self._answer(401, {"errors": [{"message": "invalid API key"}]})
        if server.mode == "down":
            self.close_connection = True
        return server.mode == "up"

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
