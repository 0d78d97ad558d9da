"""The page that compares libraries: each one's code runs as written, and all give the same numbers."""

import linecache
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import byte_tokenizer, small

PAGE = Path(__file__).parents[2] / "docs" / "coming_from.md"
PEERS = {"TransformerLens": "transformer_lens", "nnsight": "nnsight"}
JOBS = ("states", "heads", "steered", "patched", "ari")


def code(library: str) -> str:
    """All blocks of a library, one after the other."""
    return "\n".join(
        re.findall(rf'^```python title="{library}"\n(.*?)^```', PAGE.read_text(), re.DOTALL | re.MULTILINE)
    )


def answers(library: str) -> dict[str, Any]:
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    given: dict[str, Any] = {
        "model": small("gpt2", vocab_size=len(tokenizer), n_embd=32),
        "tokenizer": tokenizer,
        "prompts": [f"{word}{end}" for end in ("12", "34", "56", "78") for word in ("ab", "zz")],
        "labels": ["ab", "zz"] * 4,
    }
    lines = code(library).splitlines(keepends=True)
    linecache.cache[library] = (len(code(library)), None, lines, library)  # where nnsight reads the body of a trace
    exec(compile(code(library), library, "exec"), given)
    return {job: given[job] for job in JOBS}


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    return answers("taskcluster")


@pytest.mark.parametrize("library", PEERS)
def test_the_same_numbers_as(library: str, ours: dict[str, Any]) -> None:
    if find_spec(PEERS[library]) is None:
        pytest.skip(f"{library} is not installed: the extra bench has it")
    theirs = answers(library)
    for job in JOBS[:-1]:
        torch.testing.assert_close(theirs[job].detach(), ours[job], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(theirs["ari"], ours["ari"], atol=1e-6)


def test_our_code_runs(ours: dict[str, Any]) -> None:
    assert ours["states"].shape == (2, 8, 32)
    assert not torch.equal(ours["steered"], ours["patched"])
