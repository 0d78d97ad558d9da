"""t-SNE of states that leave it nothing to arrange, or that float32 cannot hold the distances of."""

from threading import Event

import numpy as np
import pytest

from taskcluster.training.figures import _tsne

RNG = np.random.default_rng(0)
DEGENERATE = {
    "all equal": np.ones((60, 16)),
    "two values": np.repeat([[0.0] * 16, [1.0] * 16], 30, axis=0),
    "one": np.ones((1, 16)),
    "two": RNG.normal(size=(2, 16)),
    "three": RNG.normal(size=(3, 16)),
    "one dimension": RNG.normal(size=(60, 1)),
    "five, many times each": np.repeat(RNG.normal(size=(5, 16)), 12, axis=0),
    "tiny": RNG.normal(size=(60, 16)) * 1e-30,
    "huge": RNG.normal(size=(60, 16)) * 1e30,
    "far from zero": RNG.normal(size=(60, 16)) * 1e-2 + 1e4,
}


@pytest.mark.parametrize("kind", DEGENERATE)
def test_every_state_has_a_place(kind: str) -> None:
    states = DEGENERATE[kind].astype(np.float32)
    ordinary = RNG.normal(size=states.shape).astype(np.float32)
    for checkpoints in ([states, states], [states, ordinary, states]):  # each picture begins with the one before
        pictures = _tsne(Event(), checkpoints)
        assert [picture.shape for picture in pictures] == [(len(states), 2)] * len(checkpoints)
        assert all(np.isfinite(picture).all() for picture in pictures)


@pytest.mark.parametrize(("kind", "distinct"), [("two values", 2), ("five, many times each", 5)])
def test_states_that_coincide_coincide_in_the_picture(kind: str, distinct: int) -> None:
    (picture,) = _tsne(Event(), [DEGENERATE[kind].astype(np.float32)])
    assert len(np.unique(picture.round(6), axis=0)) == distinct


def test_states_that_are_not_finite_have_no_picture() -> None:
    with pytest.raises(ValueError, match="not finite"):
        _tsne(Event(), [np.full((60, 16), np.nan, np.float32)])
