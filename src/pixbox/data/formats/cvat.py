"""``format: cvat``: one XML file of pictures with boxes, outlines, ellipses and masks, as CVAT exports "for images".

Source: CVAT's documentation of its XML annotation format, version 1.1.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from pixbox.config import AnnotatedFolder
from pixbox.data.annotation import MOST_PIXELS, pixel_bounds, size_text, to_run_lengths
from pixbox.data.findings import Findings
from pixbox.data.formats.outlines import box_around, ellipse, placed, rectangle, turned
from pixbox.data.formats.pairing import (
    Line,
    below,
    find_file,
    find_folders,
    listed_files,
    natural,
    split_folders,
    stems_to_use,
)
from pixbox.data.formats.reading import as_size_hw, read_xml
from pixbox.data.images import IMAGE_SUFFIXES, image_size_hw
from pixbox.errors import DataError
from pixbox.sample import Record, Shape, Shapes

_FILES = ("{}.xml", "annotations/{}.xml", "{}/annotations.xml")
_FOLDERS = ("images/{}", "images", "{}/images", "{}", ".")
_AREAS = ("box", "polygon", "ellipse", "mask")
_WITHOUT_AREA = ("polyline", "points", "skeleton")
_OF_THE_PICTURE = ("tag",)


@dataclass(frozen=True, slots=True)
class _Place:
    """The annotation file, the folders (relative to the root) of its pictures, and the list of those to use."""

    file: Path
    folders: tuple[str, ...]
    ids: str | None = None


def read_records(root: Path, source: str | AnnotatedFolder, findings: Findings) -> list[Record]:
    """The pictures that the file lists, in its order, with their objects; those without objects, too.

    A name ``train`` stands for ``train.xml``, ``annotations/train.xml`` or ``train/annotations.xml``, and ``.`` for
    ``annotations.xml``. Pictures are looked for in ``images/train``, ``images``, ``train/images``, ``train`` and the
    root. Objects of a larger ``z_order`` are painted later. Files that are not there or lie outside the root, pictures
    that are listed twice and wrong fields are findings; the rest is used.

    Raises:
        DataError: no such file or folder, or not a file of CVAT for images.
    """
    place = _find(root, source)
    pictures = _read_pictures(place, findings)
    only = stems_to_use(
        root, root / place.folders[0], place.ids, (os.path.splitext(name)[0] for name in pictures), findings
    )
    names = [name for name in pictures if os.path.splitext(name)[0] in only]
    entries = _entries(root, place, names, findings)
    return [
        Record(key, image, _read_shapes(place.file, pictures[line.text], image, line.where, key, findings))
        for key, line, (image,) in listed_files(root, entries, findings)
    ]


def class_names(root: Path, sources: Sequence[str | AnnotatedFolder]) -> list[str]:
    """The labels that the files define, in their order; where they define none, those of all objects.

    A label ``background`` is none: it stands for what no object covers.

    Raises:
        DataError: no such file, or not a file of CVAT for images.
    """
    defined: dict[str, None] = {}
    used: set[str] = set()
    for file in dict.fromkeys(_find(root, source).file for source in sources):
        annotations = _read(file)
        labels = [label for label in annotations.iterfind("meta/*/labels/label") if label.find("parent") is None]
        defined |= dict.fromkeys((label.findtext("name") or "").strip() for label in labels)
        used |= {(item.get("label") or "").strip() for kind in _AREAS for item in annotations.iterfind(f"image/{kind}")}
    names = list(defined) or sorted(used, key=natural)
    return [name for name in names if name and name.lower() != "background"]


def _find(root: Path, source: str | AnnotatedFolder) -> _Place:
    if isinstance(source, AnnotatedFolder):
        find_folders(root, (source.images,))
        return _Place(find_file(root, source.annotations, [source.annotations]), (source.images,), source.ids)
    if source == ".":
        return _Place(find_file(root, source, ["annotations.xml"]), ("images", "."))
    is_file = source.lower().endswith(".xml")
    names = (Path(source).stem,) if is_file else split_folders(source)
    files = [source] if is_file else [file.format(name) for name in names for file in _FILES]
    folders = dict.fromkeys(folder.format(name) for folder in _FOLDERS for name in names)
    return _Place(find_file(root, source, files), tuple(folders))


def _read(file: Path) -> Element:
    """The file's ``<annotations>``.

    Raises:
        DataError: it cannot be read, or is another file.
    """
    annotations = read_xml(file)
    if annotations.tag != "annotations":
        raise _bad(f"<annotations> is missing; the file starts with <{annotations.tag}>", str(file),
                   "Export the task as `CVAT for images 1.1`.")  # fmt: skip
    if annotations.find("track") is not None:
        raise _bad("is a file of CVAT for video: it holds tracks", str(file),
                   "Export the task as `CVAT for images 1.1`.")  # fmt: skip
    return annotations


def _read_pictures(place: _Place, findings: Findings) -> dict[str, Element]:
    """The pictures of the file by their names, with ``/``."""
    pictures: dict[str, Element] = {}
    for number, image in enumerate(_read(place.file).iterfind("image"), start=1):
        name = (image.get("name") or "").strip().replace("\\", "/")
        if not name:
            findings.add("bad-annotation", f"{place.file}: image {number}", "has no `name`", "Mend it, or remove it.")
        elif name in pictures:
            what = f'"{name}" is there twice'
            findings.add("duplicate-line", f"{place.file}: image {number}", what, "The first one counts.")
        else:
            pictures[name] = image
    if not pictures:
        raise _bad("lists no pictures", str(place.file), "Export the task as `CVAT for images 1.1`.")
    return pictures


def _entries(root: Path, place: _Place, names: Sequence[str], findings: Findings) -> Iterator[tuple[Line, tuple[Path]]]:
    """Name, with its place in the file, and path of each picture; paths outside the root are findings."""
    for name in names:
        line = Line(name, f'{place.file}: image "{name}"')
        # Frames of a video have names without a suffix.
        ends = ("",) if name.lower().endswith(IMAGE_SUFFIXES) else ("", *IMAGE_SUFFIXES, ".PNG", ".JPG")
        try:
            # An absolute name stays one, and is refused where it leads out of the root.
            paths = [below(root, os.path.join(folder, name), line.where) for folder in place.folders]
        except DataError as error:
            findings.add_error(error)
            continue
        there = (path.with_name(path.name + end) for path in paths for end in ends)
        # Where none is there, the first folder that is there says what is missing.
        missing = next((path for path in paths if path.parent.is_dir()), paths[-1])
        yield line, (next((path for path in there if path.is_file()), missing),)


def _read_shapes(file: Path, picture: Element, image: Path, where: str, key: str, findings: Findings) -> Shapes:
    stated = picture.get("height"), picture.get("width")
    size_hw = None
    try:
        if stated != (None, None):
            size_hw = as_size_hw(*(_number(picture, side, where) for side in ("height", "width")))
    except DataError as error:
        findings.add_error(error, id=key)
    objects = [item for item in picture if item.tag not in _OF_THE_PICTURE]
    shapes: list[tuple[int, Shape]] = []
    size = cache(lambda: size_hw or image_size_hw(image))
    for number, item in enumerate(objects, start=1):
        place = f"{where}, {item.tag} {number}"
        try:
            shapes.append((_whole(item, "z_order", place, "0"), _shape(item, place, size)))
        except DataError as error:
            findings.add_error(error, id=key, code="bad-annotation")
    return Shapes(tuple(shape for _, shape in sorted(shapes, key=lambda pair: pair[0])), file, size_hw)


def _shape(item: Element, where: str, size_hw: Callable[[], tuple[int, int]]) -> Shape:
    """One object; ``size_hw`` gives the size of its picture.

    Raises:
        DataError: it has no area, or wrong fields.
    """
    label = (item.get("label") or "").strip()
    if not label:
        raise _bad("has no `label`", where)
    if item.tag in _WITHOUT_AREA:
        raise DataError(f'{item.tag} of class "{label}": it has no area', where=where, code="empty-box",
                        hint="It is left out; draw a polygon around what it stands for.")  # fmt: skip
    number = partial(_number, item, where=where)
    if item.tag == "mask":
        return _mask(item, label, where, size_hw())
    if item.tag == "polygon":
        outline = _points(item, where)
        return Shape(label, box_around(outline), (outline,), where=where)
    degrees = number("rotation", default="0")
    if item.tag == "ellipse":
        x, y = number("cx"), number("cy")
        outline = turned(ellipse(x, y, number("rx"), number("ry")), degrees, (x, y))
        return Shape(label, box_around(outline), (outline,), where=where)
    if item.tag == "box":
        x1, y1, x2, y2 = (number(corner) for corner in ("xtl", "ytl", "xbr", "ybr"))
        if not degrees:
            return Shape(label, (x1, y1, x2, y2), where=where)
        outline = turned(rectangle(x1, y1, x2 - x1, y2 - y1), degrees, ((x1 + x2) / 2, (y1 + y2) / 2))
        return Shape(label, box_around(outline), (outline,), where=where)
    raise _bad(f"a {item.tag} cannot be read", where, f"Draw one of these instead: {', '.join(_AREAS)}.")


def _points(item: Element, where: str) -> NDArray[np.float64]:
    """(K, 2) x, y of ``x1,y1;x2,y2;x3,y3``."""
    text = item.get("points") or ""
    try:
        points = [[float(value) for value in point.split(",")] for point in text.strip("; ").split(";")]
    except ValueError:
        points = []
    if not points or any(len(point) != 2 for point in points):
        raise _bad(f'`points` is "{text:.40}", not x,y;x,y;x,y', where)
    if len(points) < 3:
        raise _bad(f"`points` holds {len(points)} points; an outline needs at least 3", where)
    return np.array(points, dtype=np.float64)


def _mask(item: Element, label: str, where: str, size_hw: tuple[int, int]) -> Shape:
    """Run lengths, row by row, of 0 and 1 in turn, within the rectangle that ``left``, ``top``, ... describe."""
    names = ("left", "top", "width", "height")
    left, top, width, height = (_whole(item, name, where) for name in names)
    text = item.get("rle") or ""
    try:
        lengths = np.array([int(length) for length in text.split(",")], dtype=np.int64)
    except (ValueError, OverflowError):
        raise _bad(f'`rle` is "{text:.40}", not a list of whole numbers', where) from None
    if max(width * height, size_hw[0] * size_hw[1]) > MOST_PIXELS:
        raise _bad(f"a mask of {size_text((height, width))} pixels: too large to be read", where)
    if (
        width < 1
        or height < 1
        or (lengths < 0).any()
        or (lengths > width * height).any()
        or lengths.sum() != width * height
    ):
        raise _bad(f"`rle` does not fill the {size_text((height, width))} pixels of the mask", where)
    part = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)
    pixels = placed(part, left, top, size_hw)
    # A mask without a pixel has no area either.
    box = pixel_bounds(pixels) or (left, top, left, top)
    return Shape(label, box, to_run_lengths(pixels), where=where)


def _number(element: Element, name: str, where: str, default: str | None = None) -> float:
    text = element.get(name, default)
    if text is None:
        raise _bad(f"has no `{name}`", where)
    try:
        return float(text)
    except ValueError:
        raise _bad(f'`{name}` is "{text:.40}", not a number', where) from None


def _whole(element: Element, name: str, where: str, default: str | None = None) -> int:
    number = _number(element, name, where, default)
    if not number.is_integer():
        raise _bad(f"`{name}` is {number:g}, not a whole number", where)
    return int(number)


def _bad(what: str, where: str, hint: str = "Mend it in CVAT and export again.") -> DataError:
    return DataError(what, where=where, hint=hint, code="bad-annotation")
