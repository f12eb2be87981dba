"""Index masks: pictures, palette PNGs of class indices, a list of pairs for each split, and what the indices mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixbox.conversion.writing import Labelled, put_labels, put_picture, put_text
from pixbox.drawing import as_png
from pixbox.labels import IGNORE, LabelClass, LabelMap, check_mask_classes

REFUSED_NAMES = r"[;\\\x00-\x1f\x7f]"
REFUSED_WHY = "a line of the list is `picture;mask`, so it may hold no semicolon, backslash or line break"


class MaskWriter:
    """Writes ``images/<split>/``, ``masks/<split>/``, ``<split>.txt`` and ``labels.yaml``, for ``format: list``."""

    def __init__(self, folder: Path, labels: LabelMap) -> None:
        self._folder = folder
        self._labels = labels
        check_mask_classes(labels)
        self._palette = labels.palette

    def write(self, item: Labelled[NDArray[np.uint8]]) -> str:
        picture = f"images/{item.job.split}/{item.job.name}"
        mask = f"masks/{item.job.split}/{item.job.stem}.png"
        image = Image.fromarray(item.label)
        image.putpalette(self._palette)
        put_picture(item.picture, self._folder / picture)
        put_picture(as_png(image), self._folder / mask)
        return f"{picture};{mask}"

    def finish(self, entries: Mapping[str, Sequence[str]]) -> list[str]:
        files = []
        for split, lines in entries.items():
            files.append(f"{split}.txt")
            put_text("".join(f"{line}\n" for line in lines), self._folder / files[-1])
        return [*files, put_labels(index_labels(self._labels), self._folder)]


def index_labels(labels: LabelMap) -> LabelMap:
    """The label map of masks of class indices: the same names and colours, value i for class i, 255 ignored."""
    colors = [tuple(int(part) for part in color) for color in labels.colors]
    classes = tuple(
        LabelClass(name=name, values=(index,), colors=(color,))
        for index, (name, color) in enumerate(zip(labels.names, colors, strict=True))
    )
    return LabelMap(classes=classes, ignore=(IGNORE,))
