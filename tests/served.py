"""The live page as a process, and a proxy before it."""

import http.client
import http.server
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

LONG = 20.0  # seconds that nothing needs


class Server:
    """`taskcluster-dashboard ROOT` on a free port."""

    def __init__(self, root: Path, *arguments: str) -> None:
        call = [sys.executable, "-m", "taskcluster.dashboard", str(root), "--port", "0", *arguments]
        self.process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split(" ")[0]
        self.port = self.url.split(":")[2].strip("/")

    def end(self, number: int) -> tuple[int, str]:
        """The exit code and what was printed on standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=LONG)
        return self.process.returncode, errors


class Proxy(http.server.ThreadingHTTPServer):
    """Passes on what is asked for below PREFIX, under the name `host`, with or without the prefix."""

    PREFIX = "/user/me/proxy/8642"

    def __init__(self, server: Server, host: str, keeps_prefix: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.host, self.keeps_prefix = f"127.0.0.1:{server.port}", host, keeps_prefix
        self.url = f"http://127.0.0.1:{self.server_port}{self.PREFIX}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        below = "/" + self.path.removeprefix(self.server.PREFIX).removeprefix("/")
        with closing(http.client.HTTPConnection(self.server.upstream)) as upstream:
            path = self.path if self.server.keeps_prefix else below
            upstream.request("GET", path, headers={"Host": self.server.host})
            answer = upstream.getresponse()
            content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("date", "server", "transfer-encoding"):
                self.send_header(name, value)
        with suppress(ConnectionError):  # the page went to the address with a slash meanwhile
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *_: Any) -> None:
        pass
