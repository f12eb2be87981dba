"""``format: coco``: one JSON file of pictures, categories and objects; also its panoptic form, objects in a map.

Source: Lin et al. 2014, Microsoft COCO; Kirillov et al. 2019, Panoptic Segmentation.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixbox.config import AnnotatedFolder
from pixbox.data.annotation import MOST_PIXELS, pixel_bounds, region_pixels, run_lengths
from pixbox.data.findings import Findings
from pixbox.data.formats.outlines import box_around
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
from pixbox.data.formats.reading import as_points, as_size_hw, keys_of, read_json
from pixbox.errors import DataError
from pixbox.sample import MapSegment, Record, RunLengths, Shape, Shapes

_FILES = (
    "annotations/instances_{}.json", "annotations/{}.json", "{}.json", "{}/_annotations.coco.json",
    "{}/annotations.json", "annotations/instances_{}2017.json", "annotations/panoptic_{}.json",
    "annotations/panoptic_{}2017.json",
)  # fmt: skip
_ROOT_FILES = ("_annotations.coco.json", "annotations.json", "result.json", "annotations/instances_default.json")
_FOLDERS = ("images/{}", "{}", "{}/images", "images/{}2017", "{}2017")
_LISTS = ("images", "annotations", "categories")
_SAMPLE = 50

Box = tuple[float, float, float, float]
Region = tuple[NDArray[np.float64], ...] | RunLengths | MapSegment


def read_records(root: Path, source: str | AnnotatedFolder, findings: Findings) -> list[Record]:
    """The pictures that the file lists, in its order, with their objects; those without objects, too.

    A name ``train`` stands for the first there is of ``annotations/instances_train.json``,
    ``annotations/train.json``, ``train.json``, ``train/_annotations.coco.json``, ``train/annotations.json``,
    ``annotations/instances_train2017.json`` and the panoptic files; ``.`` for ``_annotations.coco.json``,
    ``annotations.json``, ``result.json`` or ``annotations/instances_default.json``, as tools name their exports; a
    name that ends in ``.json`` is the file.
    Its pictures are looked for in ``images/train``, ``train``, ``train/images``, ``images/train2017``,
    ``train2017``, beside the file, in ``images`` and in the root.

    Larger objects (by ``area``) are painted first. The maps of a panoptic file lie in the folder of its name
    beside it, or beside it. Files that are not there, what is there twice, unknown ids and wrong fields are
    findings; the rest is used.

    Raises:
        DataError: no such file or folder, not a COCO file, or one without pictures.
    """
    path = _find_file(root, source)
    content = _read(path)
    pictures = _read_pictures(path, content["images"], findings)
    if not pictures:
        raise DataError("lists no pictures that can be used", where=str(path), code="structure")
    if isinstance(source, AnnotatedFolder):
        (folder,) = find_folders(root, (source.images,))
        stems = {key: os.path.splitext(picture.file_name)[0] for key, picture in pictures.items()}
        only = stems_to_use(root, folder, source.ids, stems.values(), findings)
        pictures = {key: picture for key, picture in pictures.items() if stems[key] in only}
    else:
        folder = _find_folder(root, path, source, list(pictures.values()))
    listed = list(listed_files(root, _places(root, folder, pictures, findings), findings))
    shapes = _read_shapes(root, path, content, {line.text: key for key, line, _ in listed}, findings)
    return [
        Record(key, image, Shapes(tuple(shapes[line.text]), path, pictures[line.text].size_hw))
        for key, line, (image,) in listed
    ]


def class_names(root: Path, sources: Sequence[str | AnnotatedFolder]) -> list[str]:
    """The names of all categories, by id. One that only stands above others, and that no object has, is left out.

    Raises:
        DataError: no such file, or not a COCO file.
    """
    names: dict[str, None] = {}
    used: set[str] = set()
    above: set[str] = set()
    for path in dict.fromkeys(_find_file(root, source) for source in sources):
        content = _read(path)
        categories = _read_categories(path, content, Findings())
        names |= dict.fromkeys(categories[key] for key in sorted(categories, key=natural))
        used |= {categories.get(str(item.get("category_id")), "") for item in _objects(content["annotations"])}
        families = [item for item in content["categories"] if isinstance(item, dict) and "supercategory" in item]
        above |= {str(item["supercategory"]) for item in families if item["supercategory"] != item.get("name")}
    return [name for name in names if name in used or name not in above]


def _objects(annotations: list[Any]) -> Iterator[dict[str, Any]]:
    """The objects of all annotations; in a panoptic file each annotation holds several."""
    for entry in annotations:
        segments = entry.get("segments_info") if isinstance(entry, dict) else None
        yield from (item for item in (segments if isinstance(segments, list) else [entry]) if isinstance(item, dict))


@dataclass(frozen=True, slots=True)
class _Picture:
    """An entry of ``images``: the file's name, with ``/``, its size if it is stated, and its place in the file."""

    file_name: str
    size_hw: tuple[int, int] | None
    where: str


def _find_file(root: Path, source: str | AnnotatedFolder) -> Path:
    """The annotation file.

    Raises:
        DataError: it is not there, or lies outside the root.
    """
    name = source if isinstance(source, str) else source.annotations
    if isinstance(source, AnnotatedFolder) or name.endswith(".json"):
        return find_file(root, name, [name])
    places = [place.format(split) for split in split_folders(name) for place in _FILES]
    return find_file(root, name, _ROOT_FILES if name == "." else places)


def _read(path: Path) -> dict[str, Any]:
    """The file as a mapping whose ``images``, ``annotations`` and ``categories`` are lists.

    Raises:
        DataError: it is not.
    """
    content = read_json(path)
    missing = [key for key in _LISTS if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        lists = ", ".join(f'"{key}"' for key in missing)
        raise DataError(f"is not a COCO file: it has no list {lists}; {keys_of(content)}", where=str(path),
                        hint='A COCO file holds the lists "images", "annotations" and "categories".',
                        code="bad-annotation")  # fmt: skip
    assert isinstance(content, dict)
    return content


def _read_pictures(path: Path, entries: list[Any], findings: Findings) -> dict[str, _Picture]:
    """The usable entries of ``images`` by their id (as text), in their order."""
    pictures: dict[str, _Picture] = {}
    for number, entry in enumerate(entries):
        where = _where(str(path), "image", entry, number)
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name or not isinstance(entry.get("id"), int | str):
            findings.add("bad-annotation", where, "has no `id` or no `file_name`", "Mend it, or remove it.")
            continue
        stated = entry.get("height"), entry.get("width")
        size_hw = as_size_hw(*stated)
        if size_hw is None and any(stated):
            what = f"`height` and `width` are {stated[0]!r:.20} and {stated[1]!r:.20}"
            findings.add("bad-annotation", where, what, "They are the size of the picture in pixels.")
        key = str(entry["id"])
        if key in pictures:
            what = f'"{name}" has the id of "{pictures[key].file_name}"'
            findings.add("duplicate-line", where, what, "The first one counts.")
            continue
        pictures[key] = _Picture(name.replace("\\", "/"), size_hw, where)
    return pictures


def _read_categories(path: Path, content: Mapping[str, Any], findings: Findings) -> dict[str, str]:
    """Names of the categories by their id (as text)."""
    names: dict[str, str] = {}
    for number, entry in enumerate(content["categories"]):
        where = _where(str(path), "category", entry, number)
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name.strip() or not isinstance(entry.get("id"), int | str):
            findings.add("bad-annotation", where, "has no `id` or no `name`")
        elif names.setdefault(str(entry["id"]), name) != name:
            what = f'"{name}" has the id of "{names[str(entry["id"])]}"'
            findings.add("bad-annotation", where, what, "The first one counts.")
    return names


def _find_folder(root: Path, path: Path, source: str, pictures: Sequence[_Picture]) -> Path:
    """The folder in which most of the pictures (of a sample) are.

    Raises:
        DataError: there is none.
    """
    names = () if source == "." else split_folders(source)
    if source.endswith(".json"):
        names = (re.sub(r"^(instances|panoptic|person_keypoints|stuff)_", "", path.stem),)
    beside = path.parent.relative_to(root).as_posix()
    places = dict.fromkeys([*(place.format(name) for place in _FOLDERS for name in names), beside, "images", "."])
    sample = pictures[:: max(1, len(pictures) // _SAMPLE)]
    found = {place: sum(_is_there(root, place, picture) for picture in sample) for place in places}
    best = max(found, key=lambda place: found[place])
    if not found[best]:
        looked = ", ".join(f"{place}/" if place != "." else "the root" for place in places)
        raise DataError(f'none of the pictures it lists is there: looked for "{sample[0].file_name}" in {looked}',
                        where=str(path), hint="Name the folder: `{images: FOLDER, annotations: FILE}`.",
                        code="missing-file")  # fmt: skip
    return below(root, best, str(path))


def _is_there(root: Path, place: str, picture: _Picture) -> bool:
    try:
        return os.path.isfile(below(root, f"{place}/{picture.file_name}", picture.where))
    except DataError:
        return False


def _places(
    root: Path, folder: Path, pictures: Mapping[str, _Picture], findings: Findings
) -> Iterator[tuple[Line, tuple[Path]]]:
    """Id, with its place in the file, and path of each picture; paths outside the root are findings."""
    inner = folder.relative_to(root).as_posix()
    for key, picture in pictures.items():
        try:
            # An absolute name stays one, and is refused.
            yield Line(key, picture.where), (below(root, os.path.join(inner, picture.file_name), picture.where),)
        except DataError as error:
            findings.add_error(error)


def _read_shapes(
    root: Path, path: Path, content: Mapping[str, Any], pictures: Mapping[str, str], findings: Findings
) -> dict[str, list[Shape]]:
    """The objects of each picture, large ones first. ``pictures``: id in the file -> record id of those to read."""
    file = str(path)  # Once: there are 100,000 objects.
    names = _read_categories(path, content, findings)
    listed = {str(entry.get("id")) for entry in content["images"] if isinstance(entry, dict)}
    maps = path.with_suffix("") if path.with_suffix("").is_dir() else path.parent
    shapes: dict[str, list[tuple[float, Shape]]] = {key: [] for key in pictures}
    for number, entry in enumerate(content["annotations"]):
        where = _where(file, "annotation", entry, number)
        key = str(entry.get("image_id")) if isinstance(entry, dict) else ""
        place = _Place(where, pictures.get(key, ""), findings)
        if key not in listed:
            place.bad(f'`image_id` "{key:.40}" is not the id of a picture in the file')
        elif key in pictures and "segments_info" in entry:
            shapes[key] += _read_segments(root, maps, entry, names, place)
        elif key in pictures:
            shapes[key] += _read_object(entry, _read_region(entry.get("segmentation"), place), names, place)
    return {key: [shape for _, shape in sorted(found, key=lambda item: -item[0])] for key, found in shapes.items()}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the file something is described, and the record id of its picture; what is wrong there is a finding."""

    where: str
    id: str
    findings: Findings

    def bad(self, message: str) -> None:
        self.findings.add("bad-annotation", self.where, message, "Mend it, or remove it.", id=self.id)


def _read_segments(
    root: Path, maps: Path, entry: Mapping[str, Any], names: Mapping[str, str], place: _Place
) -> Iterator[tuple[float, Shape]]:
    """Area and shape of each segment of a panoptic annotation."""
    name, segments = entry.get("file_name"), entry["segments_info"]
    if not isinstance(name, str) or not isinstance(segments, list):
        place.bad("has no `file_name` of a map, or `segments_info` is not a list")
        return
    try:
        file = below(root, os.path.join(maps.relative_to(root).as_posix(), name), place.where)
    except DataError as error:
        place.findings.add_error(error, id=place.id)
        return
    if not os.path.isfile(file):
        place.findings.add("missing-file", place.where, f"no such map of segments: {file}", id=place.id)
        return
    for number, segment in enumerate(segments):
        numbered = isinstance(segment, dict) and isinstance(segment.get("id"), int)
        inner = replace(place, where=f"{place.where}, segment {segment['id'] if numbered else f'[{number}]'}")
        if numbered:
            yield from _read_object(segment, MapSegment(file, segment["id"]), names, inner)
        else:
            inner.bad("has no `id`, a whole number")


def _read_object(
    entry: Mapping[str, Any], region: Region | None, names: Mapping[str, str], place: _Place
) -> Iterator[tuple[float, Shape]]:
    """Area and shape of one object, if it can be used."""
    label = names.get(str(entry.get("category_id")))
    if label is None:
        place.bad(f"`category_id` {entry.get('category_id')!r:.40} is not the id of a category in the file")
        return
    box = _read_box(entry.get("bbox"), place)
    if box is None and region is not None:
        box = _bounds(region)
    if box is None:
        if not entry.get("bbox") and not entry.get("segmentation"):
            place.bad("has neither `bbox` nor `segmentation`")
        return
    area = entry.get("area")
    if not isinstance(area, int | float) or not 0 <= area < MOST_PIXELS:
        area = abs((box[2] - box[0]) * (box[3] - box[1]))
    crowd, difficult = bool(entry.get("iscrowd")), bool(entry.get("ignore"))
    yield float(area), Shape(label, box, region, difficult, crowd, place.where)


def _read_box(bbox: Any, place: _Place) -> Box | None:
    """(x1, y1, x2, y2) of ``[x, y, width, height]``."""
    if bbox is None or bbox == []:
        return None
    corners = as_points(bbox)
    if corners is None or corners.shape != (2, 2):
        place.bad(f"`bbox` is {bbox!r:.60}, not [x, y, width, height]")
        return None
    (x, y), (width, height) = corners.tolist()
    return x, y, x + width, y + height


def _read_region(segmentation: Any, place: _Place) -> Region | None:
    """Outlines or run lengths; None where there are none that can be used."""
    if isinstance(segmentation, dict):
        return _read_run_lengths(segmentation, place)
    if segmentation is not None and not isinstance(segmentation, list):
        place.bad(f"`segmentation` is {segmentation!r:.40}, neither a list of outlines nor run lengths")
        return None
    rings: list[NDArray[np.float64]] = []
    for number, ring in enumerate(segmentation or ()):
        if not isinstance(ring, list):
            place.bad("`segmentation` is not a list of outlines, each a list of its own: [[x, y, x, y, ...]]")
            return None
        points = as_points(ring)
        if points is None:
            place.bad(f"outline [{number}] of `segmentation` is not a list of numbers x, y, x, y, ...")
        elif 0 < len(points) < 3:
            place.bad(f"outline [{number}] of `segmentation` has {len(points)} points; it needs at least 3")
        elif len(points):
            rings.append(points)
    return tuple(rings) or None


def _read_run_lengths(segmentation: Mapping[str, Any], place: _Place) -> RunLengths | None:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    size_hw = as_size_hw(*size) if isinstance(size, list) and len(size) == 2 else None
    if isinstance(counts, list) and all(type(count) is int and 0 <= count <= MOST_PIXELS for count in counts):
        packed: tuple[int, ...] | bytes = tuple(counts)
    elif isinstance(counts, str):
        packed = counts.encode(errors="surrogatepass")
    else:
        packed = b""
    if size_hw is None or not packed:
        place.bad("`segmentation` has no `size` [height, width], or its `counts` are neither numbers nor text")
        return None
    region = RunLengths(size_hw, packed)
    try:
        run_lengths(region)
    except DataError as error:
        place.bad(f"`segmentation` holds {error.faults[0].what}")
        return None
    return region


def _bounds(region: Region) -> Box | None:
    """The box around a region; None for a segment of a map, which would have to be read."""
    if isinstance(region, MapSegment):
        return None
    if isinstance(region, RunLengths):
        pixels = region_pixels(Shape("", (0, 0, 0, 0), region), region.size_hw)
        return pixel_bounds(pixels) or (0.0, 0.0, 0.0, 0.0)
    return box_around(np.concatenate(region))


def _where(file: str, kind: str, entry: Any, number: int) -> str:
    """``instances.json: annotation 17``, by its id; by its picture or its place in the list where it has none."""
    keys = (entry.get("id"), entry.get("image_id")) if isinstance(entry, dict) else (None, None)
    if isinstance(keys[0], int | str):
        return f"{file}: {kind} {keys[0]}"
    return f"{file}: {kind} of image {keys[1]}" if isinstance(keys[1], int | str) else f"{file}: {kind} [{number}]"
