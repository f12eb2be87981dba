"""Miniature data sets, written the way the real ones lie on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

WriteFiles = Callable[..., None]


@pytest.fixture
def write_pictures(tmp_path: Path) -> WriteFiles:
    """``write_pictures("photos/a.jpg", ...)``: 8 x 6 pictures below ``tmp_path``."""

    def write(*names: str) -> None:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 6), (10, 200, 90)).save(path)

    return write


@pytest.fixture
def write_masks(tmp_path: Path) -> WriteFiles:
    """``write_masks("masks/a.png", "b.mat", value=3)``: 8 x 6 masks of one value below ``tmp_path``."""

    def write(*names: str, value: int = 0) -> None:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((6, 8), value, dtype=np.uint8)
            if path.suffix == ".mat":
                scipy.io.savemat(path, {"groundtruth": pixels})
            else:
                Image.fromarray(pixels).save(path)

    return write


@pytest.fixture
def write_text(tmp_path: Path) -> WriteFiles:
    """``write_text("train.txt", "a", "b")``: a text file of these lines below ``tmp_path``."""

    def write(name: str, *lines: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    return write
