"""What is recorded of where a run was made."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from taskcluster.runs import provenance
from taskcluster.runs.provenance import surroundings

CHECKOUT = Path(provenance.__file__).parents[2]


@pytest.mark.skipif(not (CHECKOUT / ".git").exists() or not shutil.which("git"), reason="needs a git checkout")
def test_a_checkout_is_recorded_with_its_commit() -> None:
    command = ["git", "-C", str(CHECKOUT), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    commit, _, state = surroundings(torch.device("cpu"))["versions"]["commit"].partition("-")
    assert head.startswith(commit)
    assert state in ("", "dirty")


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "commit" not in surroundings(torch.device("cpu"))["versions"]
