"""``format: labelme``: one JSON file of outlines beside each picture, as labelme and its relatives save them."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Sequence
from functools import partial
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixbox.config import AnnotatedFolder
from pixbox.data.annotation import MOST_PIXELS, pixel_bounds, size_text, to_run_lengths
from pixbox.data.findings import Findings
from pixbox.data.formats.outlines import box_around, ellipse, placed, rectangle
from pixbox.data.formats.pairing import (
    Line,
    add_missing,
    below,
    contents,
    files_by_name,
    find_folders,
    natural,
    read_list,
    same_names,
    split_folders,
)
from pixbox.data.formats.reading import as_points, as_size_hw, keys_of, read_json
from pixbox.data.images import IMAGE_SUFFIXES, image_size_hw
from pixbox.errors import DataError, did_you_mean
from pixbox.sample import Record, Shape, Shapes

_FOLDERS = ("annotations", "labels", "json")
_OUTLINES = ("polygon", "oriented_rectangle", "rotation")
_WITHOUT_AREA = ("line", "linestrip", "point", "points")
_KINDS = (*_OUTLINES, "rectangle", "circle", "mask", *_WITHOUT_AREA)


def read_records(root: Path, source: str | AnnotatedFolder, findings: Findings) -> list[Record]:
    """Pictures with the objects that the JSON file of their name describes, in natural order or that of ``ids``.

    A name ``train`` stands for ``train/images`` and ``train/annotations`` (or ``labels``, ``json``), for
    ``images/train`` and ``annotations/train``, or for ``train`` where both lie side by side; ``.`` is the root.
    Objects are painted in the order of the file. What a file embeds of its picture is not read.

    A picture without a file, a file without a picture, and what a file says wrongly are findings; the rest of
    such a file is used.

    Raises:
        DataError: folders or lists that are not there, or no picture.
    """
    images, folder, only = _find(root, source)
    pictures = files_by_name(images, IMAGE_SUFFIXES)
    files = files_by_name(folder, (".json",))
    _follow_image_paths(folder, pictures, files)
    records: list[Record] = []
    for _, key, image, file in same_names(root, images, folder, pictures, files, only, findings):
        if file is None:
            add_missing(findings, image, key, folder, ".json")
        elif (shapes := _read_shapes(file, image, key, findings)) is not None:
            records.append(Record(key, image, shapes))
    return records


def class_names(root: Path, sources: Sequence[str | AnnotatedFolder]) -> list[str]:
    """The names in ``labels.txt`` (in the folder of the files or one above it), else those of all objects.

    Raises:
        DataError: folders or lists that are not there, or no picture.
    """
    lists: list[Path] = []
    for source in sources:
        _, folder, _ = _find(root, source)
        above = [place / "labels.txt" for place in (folder, *folder.parents) if place == root or root in place.parents]
        lists += [path for path in above if path.is_file()][:1]
    if lists:
        return list(dict.fromkeys(line.text for path in dict.fromkeys(lists) for line in read_list(path)))
    records = [record for source in sources for record in read_records(root, source, Findings())]
    annotations = (record.annotation for record in records)
    shapes = (shape for item in annotations if isinstance(item, Shapes) for shape in item.shapes)
    return sorted({shape.label for shape in shapes}, key=natural)


def _find(root: Path, source: str | AnnotatedFolder) -> tuple[Path, Path, list[Line] | None]:
    """Folder of the pictures, folder of the files, and which pictures to use.

    Raises:
        DataError: they are not there.
    """
    if isinstance(source, AnnotatedFolder):
        images, folder = find_folders(root, (source.images,), (source.annotations,))
        return images, folder, None if source.ids is None else read_list(below(root, source.ids, str(root)))
    names = split_folders(source)
    places = [(f"{name}/images", f"{name}/{folder}") for name in names for folder in _FOLDERS]
    places += [(f"images/{name}", f"{folder}/{name}") for name in names for folder in _FOLDERS]
    places += [(name, name) for name in names]
    for pair in places:
        images, folder = (below(root, place, str(root)) for place in pair)
        if images.is_dir() and folder.is_dir():
            return images, folder, None
    raise DataError(f"no folder {source}/ of pictures and JSON files, nor images/{source}/ and annotations/{source}/",
                    where=str(root), hint=f"It holds {contents(root)}.", code="structure")  # fmt: skip


def _follow_image_paths(folder: Path, pictures: dict[str, list[str]], files: dict[str, list[str]]) -> None:
    """Where the name of a file does not tell its picture, its ``imagePath`` does, if such a picture lies beside it.

    Only the last part of the path counts: the folders are those of the machine that the file was made on.
    """
    for name in [name for name in files if len(pictures.get(name, ())) != 1]:
        try:
            content = read_json(folder / files[name][0])
        except DataError:
            continue  # Reported when its picture is read; without a picture, as a file without one.
        path = content.get("imagePath") if isinstance(content, dict) else None
        if not isinstance(path, str):
            continue
        picture = os.path.join(os.path.dirname(name), os.path.basename(path.replace("\\", "/")))
        stem = os.path.splitext(picture)[0]
        if picture in pictures.get(name, ()):
            pictures[name] = [picture]
        elif name not in pictures and picture in pictures.get(stem, ()) and stem not in files:
            files[stem] = files.pop(name)


def _read_shapes(file: Path, image: Path, key: str, findings: Findings) -> Shapes | None:
    """The objects of one file; None, with a finding, where it is no such file."""
    try:
        content = read_json(file)
        entries = content.get("shapes") if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise DataError(f"holds no list `shapes`: {keys_of(content)}", where=str(file), code="bad-annotation",
                            hint="It is no file of labelme; remove it, or save the picture again.")  # fmt: skip
    except DataError as error:
        findings.add_error(error, id=key, code="bad-annotation")
        return None
    stated = content.get("imageHeight"), content.get("imageWidth")
    size_hw = as_size_hw(*stated)
    if size_hw is None and any(stated):
        what = f"`imageHeight` and `imageWidth` are {stated[0]!r} and {stated[1]!r}"
        findings.add("bad-annotation", str(file), what, "They are the size of the picture in pixels.", id=key)
    shapes: list[Shape] = []
    for number, entry in enumerate(entries, start=1):
        where = f"{file}: shape {number}"
        try:
            shapes.append(_read_shape(entry, where, lambda: size_hw or image_size_hw(image)))
        except DataError as error:
            findings.add_error(error, file=where, id=key, code="bad-annotation")
    return Shapes(tuple(shapes), file, size_hw)


def _read_shape(entry: Any, where: str, size_hw: Callable[[], tuple[int, int]]) -> Shape:
    """One object; ``size_hw`` gives the size of its picture.

    Raises:
        DataError: it has no area, or wrong fields.
    """
    bad = partial(DataError, where=where, code="bad-annotation")
    if not isinstance(entry, dict):
        raise bad(f"is {entry!r:.40}, not an object with `label` and `points`")
    label, kind = entry.get("label"), entry.get("shape_type") or "polygon"
    if not isinstance(label, str) or not label.strip():
        raise bad(f"`label` is {label!r:.40}, not a name")
    if kind not in _KINDS:
        raise bad(f"`shape_type` is {kind!r:.40}", hint=did_you_mean(str(kind), _KINDS))
    if kind in _WITHOUT_AREA:
        raise DataError(f'a {kind} of class "{label}" has no area', where=where, code="empty-box",
                        hint="It is left out; draw a polygon around what it stands for.")  # fmt: skip
    points = as_points(entry.get("points"))
    if points is None:
        raise bad("`points` is not a list of [x, y], two numbers each")
    flags = entry.get("flags")
    difficult = bool(entry.get("difficult") or (isinstance(flags, dict) and flags.get("difficult")))
    try:
        if kind == "mask":
            pixels = _read_mask(entry.get("mask"), points, size_hw())
            # A mask without a pixel has no area either.
            box = pixel_bounds(pixels) or (points[0, 0], points[0, 1], points[0, 0], points[0, 1])
            return Shape(label, box, to_run_lengths(pixels), difficult, where=where)
        outline = _outline(kind, points)
    except ValueError as error:
        raise bad(f'a {kind} of class "{label}" {error}') from None
    return Shape(label, box_around(outline), (outline,), difficult, where=where)


def _outline(kind: str, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K, 2) x, y.

    Raises:
        ValueError: the number of points does not fit the kind.
    """
    if kind == "rectangle" and len(points) == 2:
        (left, top), (width, height) = points.min(axis=0), np.ptp(points, axis=0)
        return rectangle(left, top, width, height)
    if kind == "circle":
        if len(points) != 2:
            raise ValueError(f"with {len(points)} points; it has its centre and one on its rim")
        (x, y), (rim_x, rim_y) = points.tolist()
        radius = hypot(rim_x - x, rim_y - y)
        return ellipse(x, y, radius, radius)
    if len(points) < 3:
        raise ValueError(f"with {len(points)} points; it needs {'2 or 4' if kind == 'rectangle' else 'at least 3'}")
    return points


def _read_mask(text: Any, points: NDArray[np.float64], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool pixels in the picture of a mask, a PNG in base64 that covers the pixels from one point to the other.

    Raises:
        ValueError: it is no such PNG, or does not cover them.
    """
    if not isinstance(text, str) or len(points) != 2:
        raise ValueError("has no `mask` or not two points")
    (left, top), (right, bottom) = points.min(axis=0).astype(int), points.max(axis=0).astype(int)
    span_hw = int(bottom - top + 1), int(right - left + 1)
    if size_hw[0] * size_hw[1] > MOST_PIXELS:
        raise ValueError(f"lies in a picture of {size_text(size_hw)} pixels: too large to be read")
    try:
        file = Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",))
        part = np.asarray(file.convert("L")) > 0 if file.size == span_hw[::-1] else None
    except MemoryError:
        raise
    except Exception as error:
        # Pillow raises whatever damaged data make it stumble over.
        raise ValueError(f"has a `mask` that is no PNG in base64 ({error})") from None
    if part is None:
        size = size_text((file.height, file.width))
        raise ValueError(f"has a `mask` of {size} pixels; its points span {size_text(span_hw)}")
    return placed(part, int(left), int(top), size_hw)
