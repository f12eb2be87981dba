"""``format: objects``: one mask file an object, in a folder for each picture.

Source: Caicedo et al. 2019, Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pixbox.config import AnnotatedFolder
from pixbox.data.annotation import pixel_bounds
from pixbox.data.findings import Findings
from pixbox.data.formats.pairing import (
    add_same_name,
    below,
    chosen,
    contents,
    files_by_name,
    find_folders,
    natural,
    read_list,
    record_id,
    split_folders,
)
from pixbox.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES, read_mask
from pixbox.errors import DataError
from pixbox.sample import Record, Shape, Shapes

_LABEL = "object"
_PORTION = 64

Extent = tuple[tuple[int, int], tuple[float, float, float, float] | None]
"""Height and width of a mask file, and the box around its pixels; None where it has none."""


def read_records(root: Path, source: str | AnnotatedFolder, findings: Findings) -> list[Record]:
    """Pictures with one object for each mask file, in natural order; pixels that are not zero are the object's.

    A name ``train`` stands for the folder of ``<id>/images/<picture>`` and ``<id>/masks/*.png``; ``.`` is the root.
    With folders, ``<images>/<name>.png`` belongs to ``<annotations>/<name>/*.png``. Masks in a folder of their own
    (``masks/<class>/*.png``) are of that class, others of the class ``object``. Later files, in natural order, lie
    over earlier ones. Every mask is read once, for its box.

    A picture without masks, masks without a picture, files that cannot be read and masks without a pixel are
    findings.

    Raises:
        DataError: folders or lists that are not there, or no picture.
    """
    pictures = list(_pictures(root, source, findings))
    records: list[Record] = []
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        # In portions, so that neither results nor an interruption wait for a long queue.
        for start in range(0, len(pictures), _PORTION):
            portion = [
                (key, image, folder, _masks(folder)) for key, image, folder in pictures[start : start + _PORTION]
            ]
            extents = pool.map(_read_extent, [file for *_, masks in portion for _, file in masks])
            for key, image, folder, masks in portion:
                records.append(Record(key, image, _shapes(folder, masks, extents, key, findings)))
    return records


def class_names(root: Path, sources: Sequence[str | AnnotatedFolder]) -> list[str]:
    """The names of the folders in the folders of masks; ``object`` where masks lie outside such a folder.

    Raises:
        DataError: folders or lists that are not there, or no picture.
    """
    pictures = (item for source in sources for item in _pictures(root, source, Findings()))
    return sorted({label for *_, folder in pictures for label, _ in _masks(folder)}, key=natural)


def _pictures(root: Path, source: str | AnnotatedFolder, findings: Findings) -> Iterator[tuple[str, Path, Path]]:
    """Record id, file and folder of masks of each picture.

    Raises:
        DataError: folders or lists that are not there, or no picture.
    """
    pairs = (
        _in_two_folders(root, source, findings)
        if isinstance(source, AnnotatedFolder)
        else _in_one(root, source, findings)
    )
    for image, folder in pairs:
        key = record_id(root, image)
        if folder.is_dir():
            yield key, image, folder
        else:
            hint = "Label it, remove it, or leave it out (`data.exclude`)."
            findings.add("missing-mask", str(image), f"no folder of masks for this picture: {folder}", hint, id=key)


def _in_one(root: Path, source: str, findings: Findings) -> Iterator[tuple[Path, Path]]:
    """Picture and folder of masks in each folder of a folder.

    Raises:
        DataError: there is no such folder, or none in it.
    """
    (top,) = find_folders(root, split_folders(source))
    entries = [entry for entry in os.scandir(top) if entry.is_dir()]
    folders = [entry.path for entry in entries if not entry.name.startswith((".", "__MACOSX"))]
    folders = [path for path in folders if {"images", "masks"} & set(os.listdir(path))]
    if not folders:
        raise DataError("no folder in it holds images/ and masks/", where=str(top), hint=f"It holds {contents(top)}.",
                        code="structure")  # fmt: skip
    for path in sorted(folders, key=natural):
        files = files_by_name(Path(path, "images"), IMAGE_SUFFIXES)
        images = sorted(file for found in files.values() for file in found)
        if not images:
            findings.add("unmatched-mask", path, "no picture in images/", "Its masks are left aside.")
        elif len(images) > 1:
            what = f"{len(images)} pictures in images/: {', '.join(images[:5])}"
            findings.add("duplicate-stem", path, what, "Each picture has a folder of its own; keep one.")
        else:
            yield Path(path, "images", images[0]), Path(path, "masks")


def _in_two_folders(root: Path, source: AnnotatedFolder, findings: Findings) -> Iterator[tuple[Path, Path]]:
    """Picture and folder of masks, of the same name.

    Raises:
        DataError: folders or lists that are not there, or no picture.
    """
    images, masks = find_folders(root, (source.images,), (source.annotations,))
    files = files_by_name(images, IMAGE_SUFFIXES, without=masks)
    if not files:
        raise DataError("there are no pictures", where=str(images), hint=f"It holds {contents(images)}.")
    files = {name: files[name] for name in sorted(files, key=natural)}
    only = None if source.ids is None else read_list(below(root, source.ids, str(root)))
    for name, where in chosen(root, images, files, only, findings):
        image = images / files[name][0]
        if len(files[name]) > 1:
            add_same_name(findings, [images / file for file in files[name]], where, record_id(root, image))
        else:
            yield image, masks / name


def _masks(folder: Path) -> list[tuple[str, Path]]:
    """Class and file of each mask below a folder, in natural order."""
    files = sorted((file for found in files_by_name(folder, MASK_SUFFIXES).values() for file in found), key=natural)
    return [(file.split("/")[0] if "/" in file else _LABEL, folder / file) for file in files]


def _read_extent(path: Path) -> Extent | DataError:
    try:
        mask = read_mask(path)
    except DataError as error:
        return error
    pixels = mask.pixels.any(axis=2) if mask.pixels.ndim == 3 else mask.pixels
    return mask.size_hw, pixel_bounds(np.asarray(pixels))


def _shapes(
    folder: Path, masks: list[tuple[str, Path]], extents: Iterator[Extent | DataError], key: str, findings: Findings
) -> Shapes:
    """The objects of one picture, of which the next ``extents`` are; files that cannot be used are findings."""
    shapes: list[Shape] = []
    sizes: set[tuple[int, int]] = set()
    for (label, file), extent in zip(masks, extents, strict=False):
        if isinstance(extent, DataError):
            findings.add_error(extent, file=str(file), id=key, code="unreadable-file")
        elif extent[1] is None:
            findings.add("empty-box", str(file), "the mask of an object without a pixel", "It is left out.", id=key)
        else:
            sizes.add(extent[0])
            shapes.append(Shape(label, extent[1], file, where=str(file)))
    return Shapes(tuple(shapes), folder, sizes.pop() if len(sizes) == 1 else None)
