"""Observations whose states and labels are known."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from taskcluster.data.rows import Position
from taskcluster.measures.observation import Observation


def seen(
    states: Mapping[Position, Tensor], labels: Mapping[Position, Mapping[str, Tensor]], **others: Any
) -> Observation:
    """Of states {position: (L+1, N, D)} and labels {position: {name: (N,)}}; all answers are right."""
    n_tasks = max(int(named["task"].max()) for named in labels.values()) + 1
    given: dict[str, Any] = {
        "split": "val",
        "n_tasks": n_tasks,
        "loss": 1.0,
        "correct": torch.ones(1, dtype=torch.bool),
    }
    without: dict[str, Any] = {"edited": lambda position, edits: None, "network": SimpleNamespace()}
    return Observation(states=states, labels=labels, **(given | without | others))
