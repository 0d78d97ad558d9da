"""States at a few measured steps, kept during training so that t-SNE does not have to compute them again.

in:  the steps that will be measured, and what each measurement sees
out: validation states at the separator, of three layers, (3, N, D)
"""

from collections.abc import Callable, Sequence

import numpy as np

from taskcluster.data.rows import Position
from taskcluster.measures.observation import Observation

AT: Position = "instruction_end"
STATES = 300  # a panel; more only crowd it
STEPS = 7  # at most


class Snapshots:
    """The states at the steps that this process measured."""

    def __init__(self) -> None:
        self._planned: Sequence[int] = ()
        self._kept: dict[int, np.ndarray] = {}

    def plan(self, schedule: Sequence[int]) -> None:
        """Keep the states of those steps of a schedule that will be drawn."""
        self._planned = spread(schedule)

    def take(self, step: int, seen: Observation) -> None:
        if step in self._planned and seen.split == "val" and AT in seen.states:
            self._kept[step] = _drawn(seen)

    def at(self, step: int, observed: Callable[[int], Observation]) -> np.ndarray:
        """The states of a step, which is observed again if they were not kept."""
        return self._kept[step] if step in self._kept else _drawn(observed(step))


def layers(n_layer: int) -> list[int]:
    """The embedding, the middle and the last."""
    return sorted({0, (n_layer + 1) // 2, n_layer})


def spread(measured: Sequence[int]) -> list[int]:
    """STEPS of the measured steps, from the first to the last."""
    return sorted({measured[round(k * (len(measured) - 1) / (STEPS - 1))] for k in range(STEPS)})


def _drawn(seen: Observation) -> np.ndarray:
    states = seen.states[AT]
    return np.asarray(states[layers(len(states) - 1), :STATES].cpu())
