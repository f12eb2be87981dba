"""Pascal VOC for detection: an XML file a picture with its boxes, and a list of ids for each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from threading import Lock
from xml.etree import ElementTree

from pixbox.conversion.writing import Labelled, number_text, put_labels, put_picture, put_text
from pixbox.labels import LabelMap
from pixbox.sample import Shape

REFUSED_NAMES = r"[\\\x00-\x1f\x7f]|(^|/)\.|^[#\s]|\s\.\w+$"
REFUSED_WHY = "it may hold no backslash or line break, start with a dot, #, or blank, nor end with a blank"


class VocBoxesWriter:
    """Writes ``JPEGImages/``, ``Annotations/``, ``ImageSets/Main/<split>.txt`` and ``labels.yaml``.

    Crowds and objects of ignored names become difficult. A picture that is in two splits is written once.
    """

    def __init__(self, folder: Path, labels: LabelMap) -> None:
        self._folder = folder
        self._labels = labels
        self._written: set[str] = set()
        self._lock = Lock()

    def write(self, item: Labelled[tuple[Shape, ...]]) -> str:
        with self._lock:
            is_new = item.job.name not in self._written
            self._written.add(item.job.name)
        if is_new:
            put_picture(item.picture, self._folder / "JPEGImages" / item.job.name)
            put_text(_xml(item), self._folder / "Annotations" / f"{item.job.stem}.xml")
        return item.job.stem

    def finish(self, entries: Mapping[str, Sequence[str]]) -> list[str]:
        files = []
        for split, ids in entries.items():
            files.append(f"ImageSets/Main/{split}.txt")
            put_text("".join(f"{line}\n" for line in ids), self._folder / files[-1])
        return [*files, put_labels(self._labels, self._folder)]


def _xml(item: Labelled[tuple[Shape, ...]]) -> str:
    annotation = ElementTree.Element("annotation")
    height, width = item.size_hw
    _add(annotation, folder="JPEGImages", filename=PurePosixPath(item.job.name).name)
    _add(ElementTree.SubElement(annotation, "size"), width=str(width), height=str(height), depth="3")
    _add(annotation, segmented="0")
    for shape in item.label:
        part = ElementTree.SubElement(annotation, "object")
        difficult = shape.difficult or shape.crowd
        _add(part, name=shape.label, pose="Unspecified", truncated="0", difficult=str(int(difficult)))
        corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), map(number_text, shape.box_xyxy), strict=True))
        _add(ElementTree.SubElement(part, "bndbox"), **corners)
    ElementTree.indent(annotation)
    return ElementTree.tostring(annotation, encoding="unicode") + "\n"


def _add(parent: ElementTree.Element, **texts: str) -> None:
    for tag, text in texts.items():
        ElementTree.SubElement(parent, tag).text = text
