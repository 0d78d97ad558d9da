"""The live page as a process, and a proxy before it."""

import subprocess
import sys
from pathlib import Path

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
