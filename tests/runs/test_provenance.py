"""The recorded environment of a run."""

import subprocess
from pathlib import Path

import pytest
import torch

from taskcluster.runs import provenance
from taskcluster.runs.provenance import changes, surroundings

CHECKOUT = Path(provenance.__file__).parents[2]


@pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="needs a git checkout")
def test_commit_is_recorded_where_git_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    head = subprocess.check_output(["git", "-C", str(CHECKOUT), "rev-parse", "HEAD"]).decode()
    recorded = surroundings(torch.device("cpu"))
    assert head.startswith(recorded["versions"]["commit"].removesuffix("-dirty"))
    monkeypatch.setenv("PATH", "")
    assert "commit" not in surroundings(torch.device("cpu"))["versions"]
    other = recorded | {"threads": 99, "versions": recorded["versions"] | {"torch": "1.0"}}
    assert changes(recorded, recorded) == ""
    assert f"threads 99 (before: {recorded['threads']}), torch 1.0 (before: " in changes(recorded, other)
