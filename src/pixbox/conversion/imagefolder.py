"""A folder a class, as image classification has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pixbox.conversion.writing import Labelled, put_labels, put_picture
from pixbox.labels import LabelMap


class ImageFolderWriter:
    """Writes ``<split>/<class>/`` and ``labels.yaml``. The label of a picture is the name of its class."""

    def __init__(self, folder: Path, labels: LabelMap) -> None:
        self._folder = folder
        self._labels = labels

    def write(self, item: Labelled[str]) -> str:
        # A class that has other names in the source keeps their folders, lest files of one name meet.
        name = item.job.name.removeprefix(f"{item.label}/")
        put_picture(item.picture, self._folder / item.job.split / item.label / name)
        return name

    def finish(self, entries: Mapping[str, Sequence[str]]) -> list[str]:
        return [put_labels(self._labels, self._folder)]
