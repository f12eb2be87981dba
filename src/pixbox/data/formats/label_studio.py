"""``format: label-studio``: the JSON export of Label Studio: rectangles, polygons, ellipses and brush strokes.

Source: Label Studio's documentation of its export and of its image tags; for brush strokes the run-length packing of
thi.ng/umbrella's ``rle-pack``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from pixbox.config import AnnotatedFolder
from pixbox.data.annotation import MOST_PIXELS, pixel_bounds, size_text, to_run_lengths
from pixbox.data.findings import Findings
from pixbox.data.formats.outlines import box_around, ellipse, rectangle, turned
from pixbox.data.formats.pairing import (
    Line,
    contents,
    files_by_name,
    find_file,
    find_folders,
    listed_files,
    natural,
    split_folders,
    stems_to_use,
)
from pixbox.data.formats.reading import as_points, as_size_hw, keys_of, read_json
from pixbox.data.images import IMAGE_SUFFIXES, image_size_hw
from pixbox.errors import DataError
from pixbox.sample import Record, Shape, Shapes

_FILES = ("{}.json", "annotations/{}.json", "{}/annotations.json")
_FOLDERS = ("images/{}", "{}/images", "{}", "images")
_AREAS = ("rectangle", "polygon", "ellipse", "brush")
_WITHOUT_AREA = ("keypoint", "vector")
_UNREADABLE = ("bitmask",)
_UPLOADED = re.compile(r"[0-9a-f]{8}-")
_EXPORT = "Export the project as `JSON`."


@dataclass(frozen=True, slots=True)
class _Place:
    """The export, the folder of its pictures, and the list of those to use."""

    file: Path
    images: Path
    ids: str | None = None


def read_records(root: Path, source: str | AnnotatedFolder, findings: Findings) -> list[Record]:
    """The pictures of the tasks, in their order, with the objects of the first annotation that was not skipped.

    A name ``train`` stands for ``train.json``, ``annotations/train.json`` or ``train/annotations.json``, and ``.`` for
    the only JSON file in the root. Pictures are looked for by the file name in the task, with or without the eight
    digits that Label Studio puts before it, in ``images/train``, ``train/images``, ``train``, ``images`` or the root,
    whichever is there first, and the folders in it.

    A task that nobody annotated, pictures that are not there or are there twice and wrong fields are findings; the rest
    is used.

    Raises:
        DataError: no such file or folder, or not such an export.
    """
    place = _find(root, source)
    tasks = list(_pictures(place, findings))
    stems = {os.path.splitext(name)[0] for name, _, _ in tasks}
    only = stems_to_use(root, place.images, place.ids, stems, findings)
    lines = (Line(name, where) for name, where, _ in tasks if os.path.splitext(name)[0] in only)
    first_of = {name: task for name, _, task in reversed(tasks)}
    records: list[Record] = []
    for key, line, (image,) in listed_files(root, ((line, (place.images / line.text,)) for line in lines), findings):
        annotation = _annotation(first_of[line.text])
        if annotation is None:
            hint = "Annotate it (submit it without objects if there are none), or leave it out (`data.exclude`)."
            findings.add("missing-mask", line.where, f"nobody annotated {image.name}", hint, id=key)
        elif not isinstance(annotation.get("result"), list):
            findings.add("bad-annotation", line.where, "its annotation has no list `result`", _EXPORT, id=key)
        else:
            shapes = _read_shapes(place.file, annotation["result"], image, line.where, key, findings)
            records.append(Record(key, image, shapes))
    return records


def class_names(root: Path, sources: Sequence[str | AnnotatedFolder]) -> list[str]:
    """The labels of all objects, in natural order.

    Raises:
        DataError: no such file or folder, or not such an export.
    """
    names: set[str] = set()
    for file in dict.fromkeys(_find(root, source).file for source in sources):
        results = ((_annotation(task) or {}).get("result") for task in _read(file))
        for result in (result for listed in results if isinstance(listed, list) for result in listed):
            names |= {name for name in _labels(result) if _kind(result) in _AREAS}
    return sorted(names, key=natural)


def _find(root: Path, source: str | AnnotatedFolder) -> _Place:
    if isinstance(source, AnnotatedFolder):
        (images,) = find_folders(root, (source.images,))
        return _Place(find_file(root, source.annotations, [source.annotations]), images, source.ids)
    if source == ".":
        files = sorted(path for path in root.glob("*.json") if path.is_file())
        if len(files) != 1:
            raise DataError(f"{len(files)} JSON files here; `.` stands for the only one", where=str(root),
                            hint=f"Name the export. The folder holds {contents(root)}.", code="structure")  # fmt: skip
        return _Place(files[0], root / "images" if (root / "images").is_dir() else root)
    is_file = source.lower().endswith(".json")
    names = (Path(source).stem,) if is_file else split_folders(source)
    places = [source] if is_file else [place.format(name) for name in names for place in _FILES]
    file = find_file(root, source, places)
    folders = (root / folder.format(name) for folder in _FOLDERS for name in names)
    return _Place(file, next((folder for folder in folders if folder.is_dir()), root))


def _read(file: Path) -> list[dict[str, Any]]:
    """The tasks.

    Raises:
        DataError: it is another file.
    """
    tasks = read_json(file)
    if not isinstance(tasks, list) or not tasks or not all(isinstance(task, dict) for task in tasks):
        raise DataError(f"is no list of tasks: {keys_of(tasks)}", where=str(file), hint=_EXPORT, code="bad-annotation")
    if not any("annotations" in task or "completions" in task for task in tasks):
        raise DataError(f"no task has `annotations`; of the first, {keys_of(tasks[0])}", where=str(file), hint=_EXPORT,
                        code="bad-annotation")  # fmt: skip
    return tasks


def _pictures(place: _Place, findings: Findings) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Picture below the folder of pictures, place in the file and content of each task."""
    files: dict[str, list[str]] = {}
    for relative in (relative for found in files_by_name(place.images, IMAGE_SUFFIXES).values() for relative in found):
        name = os.path.basename(relative)
        for stored in {name, _as_stored(name)}:
            files.setdefault(stored, []).append(relative)
    for number, task in enumerate(_read(place.file), start=1):
        where = f"{place.file}: task {task.get('id', f'[{number}]')}"
        path = _picture_path(task.get("data"))
        if path is None:
            message = "`data` names no picture: it has no `image`, nor one other file name of a picture"
            findings.add("bad-annotation", where, message, "Mend it, or remove it.")
            continue
        found = _matches(path, files)
        if len(found) > 1:
            message = f'"{os.path.basename(path)}" may be {" or ".join(sorted(found))}'
            findings.add("duplicate-stem", where, message, "Keep one of them, or rename the other.")
        else:
            yield found[0] if found else os.path.basename(path), where, task


def _picture_path(data: Any) -> str | None:
    """The path in a task's address of its picture; None where there is none, or several."""
    if not isinstance(data, dict):
        return None
    texts = {key: _path(value) for key, value in data.items() if isinstance(value, str)}
    named = (
        [texts["image"]] if texts.get("image") else [p for p in texts.values() if p.lower().endswith(IMAGE_SUFFIXES)]
    )
    return named[0] if len(named) == 1 else None


def _path(address: str) -> str:
    """``photos/a.jpg`` of ``/data/local-files/?d=photos/a.jpg``, ``s3://bucket/photos/a.jpg`` or a plain path."""
    path = address
    if "://" in address or "?" in address:
        try:
            parts = urlsplit(address)
        except ValueError:
            return ""
        path = parse_qs(parts.query).get("d", [parts.path])[0]
    return path.replace("\\", "/").rstrip("/")


def _matches(path: str, files: Mapping[str, list[str]]) -> list[str]:
    """The files that a path of another machine may mean; where several have its name, those in its folder."""
    written, decoded = os.path.basename(path), os.path.basename(unquote(path))
    for name in (written, decoded, _UPLOADED.sub("", written, count=1), _UPLOADED.sub("", decoded, count=1)):
        found = files.get(name, [])
        if len(found) > 1:
            found = [file for file in found if f"/{unquote(path)}".endswith(f"/{file}")] or found
        if found:
            return found
    return []


def _as_stored(name: str) -> str:
    """A file name as Label Studio stores an uploaded file: blanks become underscores, other signs are dropped."""
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))


def _annotation(task: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first annotation that was not skipped; None where there is none."""
    annotations = task.get("annotations", task.get("completions"))
    for annotation in annotations if isinstance(annotations, list) else ():
        if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
            return annotation
    return None


def _kind(result: Any) -> str:
    """What a result draws, ``rectangle``, ``brush``, ...; another text where it draws nothing."""
    kind = result.get("type") if isinstance(result, dict) else None
    if kind != "labels":
        return kind.removesuffix("labels") if isinstance(kind, str) else ""
    # The tag <Labels> serves every kind; the fields tell which.
    fields = {"rle": "brush", "points": "polygon", "radiusX": "ellipse", "width": "rectangle"}
    value = result.get("value")
    return next((name for field, name in fields.items() if isinstance(value, dict) and field in value), "")


def _labels(result: Any) -> list[str]:
    value = result.get("value") if isinstance(result, dict) else None
    names = (value.get(result.get("type")) or value.get("labels")) if isinstance(value, dict) else None
    return [name for name in names if isinstance(name, str) and name.strip()] if isinstance(names, list) else []


def _read_shapes(file: Path, results: list[Any], image: Path, where: str, key: str, findings: Findings) -> Shapes:
    labelled = {str(result["id"]) for result in results if _labels(result) and "id" in result}
    size_hw = next((size for size in map(_size, results) if size is not None), None)
    picture_hw = cache(lambda: size_hw or image_size_hw(image))
    shapes: list[Shape] = []
    for number, result in enumerate(results, start=1):
        kind = _kind(result)
        # The tags <Rectangle> and <Labels> give two results of one id, the first without a label.
        is_twin = not _labels(result) and isinstance(result, dict) and str(result.get("id")) in labelled
        if kind not in (*_AREAS, *_WITHOUT_AREA, *_UNREADABLE) or is_twin:
            continue
        place = f"{where}, result {number}"
        try:
            if _size(result) not in (size_hw, None):
                what = f"`original_width` and `original_height` are {size_text(_size(result) or (0, 0))}"
                raise _bad(f"{what}, in a result before {size_text(size_hw or (0, 0))}", place)
            shapes.append(_shape(result, kind, place, picture_hw))
        except DataError as error:
            findings.add_error(error, id=key, code="bad-annotation")
    return Shapes(tuple(shapes), file, size_hw)


def _size(result: Any) -> tuple[int, int] | None:
    """Height and width of the picture that a result states, if they can be those of a picture."""
    stated = (
        as_size_hw(result.get("original_height"), result.get("original_width")) if isinstance(result, dict) else None
    )
    return stated if stated and stated[0] * stated[1] <= MOST_PIXELS else None


def _shape(result: Mapping[str, Any], kind: str, where: str, size_hw: Callable[[], tuple[int, int]]) -> Shape:
    """One object; ``size_hw`` gives the size of its picture.

    Raises:
        DataError: it has no area, or wrong fields.
    """
    labels, value = _labels(result), result.get("value")
    if len(labels) != 1 or not isinstance(value, dict):
        raise _bad(f"a {kind} has {len(labels) or 'no'} label{'s' if len(labels) > 1 else ''}; it needs one", where)
    (label,) = labels
    if kind in _WITHOUT_AREA:
        raise DataError(f'a {kind} of class "{label}" has no area', where=where, code="empty-box",
                        hint="It is left out; draw a polygon around what it stands for.")  # fmt: skip
    if kind in _UNREADABLE:
        raise _bad(f"a {kind} cannot be read", where, f"Draw one of these instead: {', '.join(_AREAS)}.")
    if result.get("image_rotation"):
        raise _bad(f"the picture was turned by {result['image_rotation']} degrees while it was annotated", where)
    height, width = size_hw()
    if kind == "brush":
        return _brush(value, label, where, (height, width))
    if kind == "polygon":
        points = as_points(value.get("points"))
        if points is None or len(points) < 3:
            raise _bad("`points` is not a list of three and more [x, y], two numbers each", where)
        outline = points * (width / 100, height / 100)
        return Shape(label, box_around(outline), (outline,), where=where)
    number = partial(_number, value, where=where)
    x, y, degrees = number("x") * width / 100, number("y") * height / 100, number("rotation", default=0)
    if kind == "ellipse":
        outline = ellipse(x, y, number("radiusX") * width / 100, number("radiusY") * height / 100)
    else:
        across, down = number("width") * width / 100, number("height") * height / 100
        if not degrees:
            return Shape(label, (x, y, x + across, y + down), where=where)
        outline = rectangle(x, y, across, down)
    # An ellipse turns about its centre, a rectangle about its upper left corner.
    outline = turned(outline, degrees, (x, y))
    return Shape(label, box_around(outline), (outline,), where=where)


def _brush(value: Mapping[str, Any], label: str, where: str, size_hw: tuple[int, int]) -> Shape:
    """Packed red, green, blue and alpha of every pixel; painted is where alpha is not zero."""
    codes = value.get("rle")
    if not isinstance(codes, list) or not all(type(code) is int and 0 <= code <= 255 for code in codes):
        raise _bad("`rle` is not a list of numbers 0-255", where)
    height, width = size_hw
    try:
        channels = unpack(bytes(codes), 4 * height * width)
    except ValueError as error:
        raise _bad(f"`rle` {error}; the picture is {size_text(size_hw)}", where) from None
    pixels = channels.reshape(height, width, 4)[:, :, 3] > 0
    # A stroke that was rubbed out has no area.
    box = pixel_bounds(pixels) or (0.0, 0.0, 0.0, 0.0)
    return Shape(label, box, to_run_lengths(pixels), where=where)


def unpack(data: bytes, count: int) -> NDArray[np.uint8]:
    """``count`` numbers of up to 8 bits from a stream of bits, highest first.

    The head is the number of words (32 bits), the bits of a word less one (5), and the bits of four length fields, each
    less one (4 bits each). A block is a flag, which length field (2 bits), the length less one, and one word that is
    repeated (flag 1) or as many words as the length says (flag 0).

    Raises:
        ValueError: it holds another number of words, or words of more than 8 bits, or ends too early.
    """
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    text = (bits + ord("0")).tobytes()
    position = 0

    def read(width: int) -> int:
        nonlocal position
        position += width
        if position > len(text):
            raise ValueError("ends too early")
        return int(text[position - width : position], 2)

    total, word = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    if total != count or count > MOST_PIXELS:
        raise ValueError(f"holds {total:,} numbers, not {count:,}")
    if word > 8:
        raise ValueError(f"holds numbers of {word} bits")
    numbers = np.empty(count, dtype=np.uint8)
    places = (1 << np.arange(word)[::-1]).astype(np.uint8)
    done = 0
    while done < count:
        is_repeated = read(1)
        end = done + read(widths[read(2)]) + 1
        if end > count:
            raise ValueError(f"holds more than {count:,} numbers")
        if is_repeated:
            numbers[done:end] = read(word)
        else:
            position += (end - done) * word
            if position > len(bits):
                raise ValueError("ends too early")
            words = bits[position - (end - done) * word : position].reshape(-1, word)
            numbers[done:end] = words @ places
        done = end
    return numbers


def _number(value: Mapping[str, Any], name: str, where: str, default: float | None = None) -> float:
    number = value.get(name, default)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise _bad(f"`{name}` is {number!r:.40}, not a number" if name in value else f"has no `{name}`", where)
    try:
        return float(number)
    except OverflowError:  # JSON knows whole numbers of any length.
        raise _bad(f"`{name}` has too many digits", where) from None


def _bad(what: str, where: str, hint: str = "Mend it in Label Studio and export again.") -> DataError:
    return DataError(what, where=where, hint=hint, code="bad-annotation")
