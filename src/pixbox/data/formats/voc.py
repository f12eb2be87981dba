"""``format: voc``: Pascal VOC segmentation, and the Semantic Boundaries (SBD) lists and ``.mat`` masks.

Source: Everingham et al. 2010, The Pascal Visual Object Classes Challenge; Hariharan et al. 2011, Semantic
Contours from Inverse Detectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pixbox.data.findings import Findings
from pixbox.data.formats.pairing import Line, below, find_folders, find_list, listed_pairs, read_list
from pixbox.errors import DataError
from pixbox.labels import LabelClass, LabelMap
from pixbox.sample import Record

_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_MASKS = ("SegmentationClass/{}.png", "SegmentationClassAug/{}.png", "cls/{}.mat")


def voc_color(index: int) -> tuple[int, int, int]:
    """Colour of a palette entry, 0-255: each channel takes every third bit of the index, lowest bit first to the top.

    Source: the development kit's VOCcolormap.
    """
    red = green = blue = 0
    for step in range(8):
        red |= (index >> 3 * step & 1) << 7 - step
        green |= (index >> 3 * step + 1 & 1) << 7 - step
        blue |= (index >> 3 * step + 2 & 1) << 7 - step
    return red, green, blue


LABELS = LabelMap(
    classes=tuple(
        LabelClass(name=name, values=(index,), colors=(voc_color(index),)) for index, name in enumerate(_NAMES)
    ),
    ignore=(255, voc_color(255)),
)
"""Background and the 20 object classes; 255, the outlines, is ignored."""


def read_records(root: Path, source: str, findings: Findings) -> list[Record]:
    """The pictures of a split, in the order of its list.

    ``root`` is ``VOC2012`` or SBD's ``dataset`` folder; ``source`` names ``ImageSets/Segmentation/NAME.txt`` or
    ``NAME.txt``. A line is a picture's id, or a picture and a mask (``/JPEGImages/x.jpg
    /SegmentationClassAug/x.png``). The mask of an id is looked for in ``SegmentationClass``, then
    ``SegmentationClassAug``, then SBD's ``cls``.

    Raises:
        DataError: no such folder or list.
    """
    (images,) = find_folders(root, ("JPEGImages", "img"))
    lines = read_list(find_list(root, source, "ImageSets/Segmentation", "."))
    return listed_pairs(root, _entries(root, images, lines, findings), findings)


def _entries(root: Path, images: Path, lines: list[Line], findings: Findings) -> Iterator[tuple[Line, Path, Path]]:
    for line in lines:
        fields = line.text.split()
        if len(fields) > 2:
            what, hint = f'{len(fields)} entries in "{line.text}"', "A line is an id, or a picture and a mask."
            findings.add("bad-line", line.where, what, hint)
            continue
        try:
            if len(fields) == 2:
                image, mask = (below(root, field.lstrip("/"), line.where) for field in fields)
            else:
                image = below(root, f"{images.name}/{line.text}.jpg", line.where)
                masks = [below(root, place.format(line.text), line.where) for place in _MASKS]
                # Where none is there, the first says what is missing.
                mask = next((path for path in masks if path.is_file()), masks[0])
        except DataError as error:
            findings.add_error(error)
        else:
            yield line, image, mask
