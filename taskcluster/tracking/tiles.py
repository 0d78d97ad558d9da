"""Numbers as a picture, without anything that draws: a tile of one colour for each.

in:  values (H, W), from 0 to 1
out: pixels (SIDE * H, SIDE * W, 3), uint8
"""

import numpy as np

SIDE = 24  # pixels of a tile
VIRIDIS = "440154 472d7b 3b528b 2c728e 21918c 28ae80 5ec962 addc30 fde725"  # at equal distances
UNKNOWN = 128  # grey, of what is not a number


def tiles(values: np.ndarray) -> np.ndarray:
    """Values outside the range have the colours of its ends."""
    colors = np.array([list(bytes.fromhex(color)) for color in VIRIDIS.split()])
    at = np.linspace(0, 1, len(colors))
    channels = [np.interp(np.nan_to_num(values), at, channel) for channel in colors.T]
    pixels = np.where(np.isnan(values)[..., None], UNKNOWN, np.stack(channels, -1))
    return pixels.round().astype(np.uint8).repeat(SIDE, 0).repeat(SIDE, 1)
