"""The files that a result is saved as."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixbox.drawing import as_png
from pixbox.files import write_file

_ENDS = {"overlay": "_overlay.png", "colors": "_colors.png", "probabilities": "_probabilities.npz"}
EXTRAS = tuple(_ENDS)
"""What a Segmentation can save beside its mask."""


def extra_file(mask: Path, extra: str) -> Path:
    """Where one of ``EXTRAS`` lies beside a mask file: ``a/x.png`` -> ``a/x_overlay.png``."""
    return mask.with_name(f"{mask.stem}{_ENDS[extra]}")


class Described(Protocol):
    """A result that is saved as JSON."""

    @property
    def name(self) -> str: ...

    def to_plain(self) -> dict[str, Any]: ...

    def overlay(self) -> NDArray[np.uint8]: ...


def save_json(result: Described, path: str | Path, extras: Sequence[str]) -> list[Path]:
    """Write ``to_plain`` and, if it is among ``extras``, the overlay beside it. Returns the paths."""
    path = Path(path)
    if path.suffix.lower() != ".json":
        path = path / f"{result.name}.json"
    files: dict[Path, bytes | str] = {path: json.dumps(result.to_plain(), indent=1, ensure_ascii=False) + "\n"}
    if "overlay" in extras:
        files[extra_file(path, "overlay")] = as_png(Image.fromarray(result.overlay()))
    for file, content in files.items():
        write_file(file, content)
    return list(files)
