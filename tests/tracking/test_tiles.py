"""Pictures of which every tile is known."""

import math

import numpy as np

from taskcluster.tracking.tiles import SIDE, tiles


def test_every_number_is_a_tile_of_its_colour() -> None:
    picture = tiles(np.array([[0.0, 0.5, 1.0], [-0.2, math.nan, 1.1]]))
    assert (picture.shape, picture.dtype) == ((2 * SIDE, 3 * SIDE, 3), np.uint8)
    middles = picture[SIDE // 2 :: SIDE, SIDE // 2 :: SIDE]
    dark, middle, bright, grey = (0x44, 0x01, 0x54), (0x21, 0x91, 0x8C), (0xFD, 0xE7, 0x25), (128, 128, 128)
    assert middles.tolist() == [[*map(list, (dark, middle, bright))], [*map(list, (dark, grey, bright))]]
    assert (picture == middles.repeat(SIDE, 0).repeat(SIDE, 1)).all()
