"""A download from the hub reports its progress; the server is a local stand-in for the hub."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from networks import byte_tokenizer, small

COMMIT = "a" * 40
PIECE, PAUSE = 1_000_000, 0.2  # bytes, and seconds between them

DOWNLOAD = """
import threading, time
from taskcluster.models.pretrained import pretrained
from taskcluster.work import sentence

loading = threading.Thread(target=pretrained, args=(300, 20, "me/wide", None, None, "float32", False))
loading.start()
while loading.is_alive():
    print(sentence())
    time.sleep(0.05)
"""


class Hub(BaseHTTPRequestHandler):
    """The files of a folder as the repository me/wide."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.folder = folder
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        file = self.folder / Path(self.path).name
        if "/resolve/" in self.path:
            self._send(file.read_bytes() if file.is_file() else None)
        else:
            files = [{"type": "file", "path": f.name, "size": f.stat().st_size} for f in self.folder.iterdir()]
            description = {"id": "me/wide", "sha": COMMIT, "siblings": [], "tags": []}
            self._send(json.dumps(files if "/tree/" in self.path else description).encode())

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send(self, content: bytes | None) -> None:
        self.send_response(404 if content is None else 200)
        content = content or b""
        tag = hashlib.sha1(content).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{tag}"', "Content-Length": f"{len(content)}"}
        for name, value in headers.items() if content else [("X-Error-Code", "EntryNotFound"), ("Content-Length", "0")]:
            self.send_header(name, value)
        self.end_headers()
        for first in range(0, len(content) if self.command == "GET" else 0, PIECE):
            self.wfile.write(content[first : first + PIECE])
            time.sleep(PAUSE if len(content) > PIECE else 0)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """The address of a hub that has a model of 22 MB."""
    folder = tmp_path / "wide"
    small("gpt2", vocab_size=300, n_embd=480).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_a_download_reports_its_progress(hub: str, tmp_path: Path) -> None:
    environment = os.environ | {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    ran = subprocess.run([sys.executable, "-c", DOWNLOAD], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"^downloading me/wide$", ran.stdout, re.MULTILINE)
    assert re.search(r"^downloading me/wide, MB \d+ of 23, about \d+ s$", ran.stdout, re.MULTILINE)
    assert ran.stderr == ""
