"""``format: voc-boxes``: one XML file a picture with named boxes, as Pascal VOC has it and many tools write it.

Source: Everingham et al. 2010, The Pascal Visual Object Classes Challenge, and its development kit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from pixbox.config import AnnotatedFolder
from pixbox.data.findings import Findings
from pixbox.data.formats import voc
from pixbox.data.formats.pairing import (
    Line,
    add_missing,
    below,
    find_annotated,
    find_folders,
    find_list,
    natural,
    read_list,
    split_folders,
)
from pixbox.data.formats.reading import read_xml
from pixbox.data.images import IMAGE_SUFFIXES
from pixbox.errors import DataError
from pixbox.sample import Record, Shape, Shapes

_LISTS = "ImageSets/Main"
_ROOT_LAYOUTS = [("JPEGImages", "Annotations"), ("images", "annotations")]
_EVERYTHING = ("all", ".")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_VOC_NAMES = voc.LABELS.names[1:]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a split lies: pictures and XML files of the same names, and the list of those to use."""

    images: Path
    annotations: Path
    ids: Path | None


def read_records(root: Path, source: str | AnnotatedFolder, findings: Findings) -> list[Record]:
    """The pictures of a split with their boxes as written.

    A name ``train`` stands for the list ``ImageSets/Main/train.txt`` of pictures in ``JPEGImages`` with XML files in
    ``Annotations``. Where there is no such list: ``images/train`` and ``annotations/train``, ``train/images`` and
    ``train/annotations``, or a folder ``train`` with both side by side; ``all`` or ``.`` for all pictures of the root.
    The XML file of a picture has its name; what ``<filename>``, ``<folder>`` and ``<path>`` say is often wrong and
    does not count.

    A picture without a file, a file without a picture, and what a file says wrongly are findings; the rest of such a
    file is used.

    Raises:
        DataError: folders or lists that are not there, or no picture.
    """
    records: list[Record] = []
    place = _find(root, source)
    for key, image, file in _pictures(root, place, findings):
        if file is None:
            add_missing(findings, image, key, place.annotations, ".xml")
        elif (shapes := _read_shapes(file, key, findings)) is not None:
            records.append(Record(key, image, shapes))
    return records


def class_names(root: Path, sources: Sequence[str | AnnotatedFolder]) -> list[str]:
    """The names that the XML files use: Pascal VOC's own in their usual order, others in natural order.

    Raises:
        DataError: as ``read_records``.
    """
    names = set()
    for source in sources:
        for _, _, file in _pictures(root, _find(root, source), Findings()):
            try:
                objects = [] if file is None else read_xml(file).findall("object")
            except DataError:
                continue
            names |= {_text(item, "name") for item in objects} - {""}
    if names <= set(_VOC_NAMES):
        return [name for name in _VOC_NAMES if name in names]
    return sorted(names, key=natural)


def _find(root: Path, source: str | AnnotatedFolder) -> _Place:
    if isinstance(source, AnnotatedFolder):
        images, annotations = find_folders(root, (source.images,), (source.annotations,))
        return _Place(images, annotations, None if source.ids is None else below(root, source.ids, str(root)))
    layouts = _layouts(source)
    if source not in _EVERYTHING:
        lists = [below(root, f"{folder}/{source}", str(root)) for folder in (_LISTS, ".")]
        if any(path.is_file() or path.with_name(f"{path.name}.txt").is_file() for path in lists):
            images, annotations = _find_folders(root, _ROOT_LAYOUTS)
            return _Place(images, annotations, find_list(root, source, _LISTS, "."))
        if (root / _LISTS).is_dir() and not any(below(root, images, str(root)).is_dir() for images, _ in layouts):
            find_list(root, source, _LISTS, hint="`all` stands for every picture of the root.")
    images, annotations = _find_folders(root, layouts)
    return _Place(images, annotations, None)


def _layouts(source: str) -> list[tuple[str, str]]:
    """Where the pictures and the XML files of a split without a list may lie."""
    if source in _EVERYTHING:
        return [*_ROOT_LAYOUTS, (".", ".")]
    return [
        layout
        for name in split_folders(source)
        for layout in (
            *((f"{name}/{images}", f"{name}/{annotations}") for images, annotations in _ROOT_LAYOUTS),
            (f"images/{name}", f"annotations/{name}"),
            (name, name),
        )
    ]


def _find_folders(root: Path, layouts: Sequence[tuple[str, str]]) -> tuple[Path, Path]:
    """The folders of the first layout of which the pictures are there."""
    found = next((layout for layout in layouts if below(root, layout[0], str(root)).is_dir()), None)
    wanted = layouts if found is None else [found]
    images, annotations = find_folders(root, [layout[0] for layout in wanted], [layout[1] for layout in wanted])
    return images, annotations


def _pictures(root: Path, place: _Place, findings: Findings) -> Iterator[tuple[str, Path, Path | None]]:
    only = None if place.ids is None else list(_ids(place.images, read_list(place.ids), findings))
    return find_annotated(root, place.images, place.annotations, ".xml", findings, only=only)


def _ids(images: Path, lines: Sequence[Line], findings: Findings) -> Iterator[Line]:
    """The lines of a list of ids. Those of a list of one class (``2007_000032 -1``) are findings."""
    for line in lines:
        is_of_class = re.fullmatch(r"\S+\s+(-1|0|1)", line.text)
        if is_of_class and not any((images / f"{line.text}{suffix}").exists() for suffix in IMAGE_SUFFIXES):
            hint = "Name the list of all classes (`train`, not `cat_train`)."
            findings.add("bad-line", line.where, f'two entries in "{line.text}": this is the list of a class', hint)
        else:
            yield line


def _read_shapes(file: Path, key: str, findings: Findings) -> Shapes | None:
    """The boxes of an XML file; None, with a finding, where it is no such file."""
    try:
        annotation = read_xml(file)
        if annotation.tag != "annotation":
            raise _bad(f"<annotation> is missing; the file starts with <{annotation.tag}>", str(file))
    except DataError as error:
        findings.add_error(error, id=key)
        return None
    size_hw = None
    shapes = []
    try:
        size_hw = _size(annotation.find("size"), f"{file}: size")
    except DataError as error:
        findings.add_error(error, id=key)
    for number, item in enumerate(annotation.findall("object"), start=1):
        try:
            shapes.append(_shape(item, f"{file}: object {number}"))
        except DataError as error:
            findings.add_error(error, id=key)
    return Shapes(tuple(shapes), file, size_hw)


def _shape(item: Element, where: str) -> Shape:
    name = _text(item, "name")
    if not name:
        raise _bad("<name> is missing or empty", where)
    box = item.find("bndbox")
    if box is None:
        raise _bad("<bndbox> is missing", where)
    x1, y1, x2, y2 = (_number(box, corner, where) for corner in _CORNERS)
    difficult = _text(item, "difficult") or "0"
    if difficult not in ("0", "1"):
        raise _bad(f'<difficult> is "{difficult}", not 0 or 1', where)
    return Shape(name, (x1, y1, x2, y2), difficult=difficult == "1", where=where)


def _size(size: Element | None, where: str) -> tuple[int, int] | None:
    """Height and width; None where they are missing or 0, which tools write that did not open the picture."""
    if size is None or not _text(size, "height") or not _text(size, "width"):
        return None
    height, width = (_number(size, tag, where) for tag in ("height", "width"))
    if not height.is_integer() or not width.is_integer() or height < 0 or width < 0:
        raise _bad(f"<width> and <height> are {width:g} and {height:g}, not whole numbers", where)
    return (int(height), int(width)) if height and width else None


def _text(element: Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _number(element: Element, tag: str, where: str) -> float:
    text = _text(element, tag)
    if not text:
        raise _bad(f"<{tag}> is missing or empty", where)
    try:
        return float(text)
    except ValueError:
        raise _bad(f'<{tag}> is "{text}", not a number', where) from None


def _bad(what: str, where: str) -> DataError:
    return DataError(what, where=where, hint="Mend the file, or leave the picture out (`data.exclude`).",
                     code="bad-annotation")  # fmt: skip
