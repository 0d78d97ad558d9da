"""States at a few measured steps, kept during training so that t-SNE does not have to compute them again.

in:  the steps that will be measured, and what each measurement sees
out: validation states at the separator, of three layers, (3, N, D)
"""

from collections.abc import Sequence

import numpy as np

from taskcluster.data.rows import Position
from taskcluster.measures.observation import Observation

AT: Position = "instruction_end"
STATES = 300  # points in a panel; more would crowd it
STEPS = 7  # at most


class Snapshots(dict[int, np.ndarray]):
    """{step: states} at those of the planned steps that this process measured."""

    planned: Sequence[int] = ()

    def take(self, step: int, seen: Observation) -> None:
        if step in self.planned and seen.split == "val" and AT in seen.states:
            self[step] = drawn(seen)


def layers(n_layer: int) -> list[int]:
    """The embedding, the middle and the last."""
    return sorted({0, (n_layer + 1) // 2, n_layer})


def spread(measured: Sequence[int]) -> list[int]:
    """STEPS of the measured steps, from the first to the last."""
    return sorted({measured[round(k * (len(measured) - 1) / (STEPS - 1))] for k in range(STEPS)})


def drawn(seen: Observation) -> np.ndarray:
    """Return an observation's states for t-SNE."""
    states = seen.states[AT]
    return np.asarray(states[layers(len(states) - 1), :STATES].cpu())
