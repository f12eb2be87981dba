"""How results look in a notebook and in words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixbox.drawing import as_png

_LONGEST = 1600


def notebook_png(picture: NDArray[np.uint8]) -> bytes:
    """A PNG of (H, W, 3) uint8 RGB, at most 1,600 pixels a side: a notebook keeps what it shows."""
    shown = Image.fromarray(picture)
    shown.thumbnail((_LONGEST, _LONGEST))
    return as_png(shown)


def size_text(picture: NDArray[np.uint8]) -> str:
    """``480 x 360``: width first, as people say it."""
    return f"{picture.shape[1]} x {picture.shape[0]}"
