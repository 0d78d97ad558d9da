"""Observations with known states and labels, and data with known instructions."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from conftest import SMALL, composed
from torch import Tensor

from taskcluster.config import RunConfig
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import Position
from taskcluster.measures.observation import Observation
from taskcluster.tasks.family import Task, TaskFamily


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


def data_of(*tasks: list[str], words: bool = False) -> SequenceDataModule:
    """Of tasks with these instructions, half of them in validation, that have the inputs x and z in common."""
    made = (Task(k, ("any",), (tuple(texts),), {"x": f"y{k % 2}", "z": f"y{k % 3}"}) for k, texts in enumerate(tasks))
    family = TaskFamily(tuple(made), holdout="instruction", val_fraction=0.5, seed=0, words=words)
    small = (*SMALL, "data.probe_size=1000")
    return RunConfig.of(composed(*small)).data.build(SequenceDataModule, family=family)


def random_texts(n: int, length: int = 8) -> list[str]:
    """Strings of six symbols, any of which is as likely at any place."""
    symbols = torch.randint(6, (n, length), generator=torch.Generator().manual_seed(0))
    return ["".join("abcdef"[symbol] for symbol in row) for row in symbols.tolist()]
