"""t-SNE of few or equal states."""

import numpy as np
import pytest

from taskcluster.training.figures import tsne

RNG = np.random.default_rng(0)
DEGENERATE = {
    "all equal": np.ones((60, 16)),
    "two values": np.repeat([[0.0] * 16, [1.0] * 16], 30, axis=0),
    "three": RNG.normal(size=(3, 16)),
    "five, many times each": np.repeat(RNG.normal(size=(5, 16)), 12, axis=0),
    "far from zero": RNG.normal(size=(60, 16)) * 1e-2 + 1e4,
}


@pytest.mark.parametrize("kind", DEGENERATE)
def test_every_state_has_finite_coordinates_and_equal_ones_coincide(kind: str) -> None:
    states = DEGENERATE[kind].astype(np.float32)
    ordinary = RNG.normal(size=states.shape).astype(np.float32)
    pictures = tsne([states, ordinary, states])  # each picture begins with the one before
    assert [picture.shape for picture in pictures] == [(len(states), 2)] * 3
    assert all(np.isfinite(picture).all() for picture in pictures)
    distinct = len(np.unique(states, axis=0))
    assert len(np.unique(pictures[0].round(2), axis=0)) == distinct
