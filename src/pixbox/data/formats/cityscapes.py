"""``format: cityscapes``: ``leftImg8bit`` pictures and ``gtFine`` label ids, with the 19 classes of evaluation.

Source: Cordts et al. 2016, The Cityscapes Dataset for Semantic Urban Scene Understanding.
"""

from __future__ import annotations

from pathlib import Path

from pixbox.data.findings import Findings
from pixbox.data.formats.pairing import find_folders, find_pairs
from pixbox.labels import LabelClass, LabelMap
from pixbox.sample import Record

_CLASSES = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)

LABELS = LabelMap(
    classes=tuple(LabelClass(name=name, values=(value,), colors=(color,)) for value, name, color in _CLASSES),
    # 255 is id -1 (license plate) in 8 bits.
    ignore=(0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255),
)
"""The 19 classes that the benchmark evaluates, from the 34 label ids; the other ids are ignored."""


def read_records(root: Path, source: str, findings: Findings) -> list[Record]:
    """The pictures of ``leftImg8bit/<source>`` and their ``gtFine/<source>`` label ids, by city and frame.

    Raises:
        DataError: no such folder, or no picture.
    """
    images, masks = find_folders(root, (f"leftImg8bit/{source}",), (f"gtFine/{source}",))
    return find_pairs(root, images, masks, findings, image_end="_leftImg8bit", mask_end="_gtFine_labelIds")
