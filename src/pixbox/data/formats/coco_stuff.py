"""``format: coco-stuff``: COCO pictures and their ``stuffthingmaps``, 80 things and 91 kinds of stuff.

Source: Caesar et al. 2018, COCO-Stuff: Thing and Stuff Classes in Context.
"""

from __future__ import annotations

from pathlib import Path

from pixbox.data.findings import Findings
from pixbox.data.formats.pairing import find_folders, find_pairs
from pixbox.labels import LabelClass, LabelMap
from pixbox.sample import Record

# By value, 0-181 (COCO's category id minus one); "" where an id was given up before anything was labelled with it.
_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "", "backpack", "umbrella", "", "", "handbag", "tie", "suitcase",
    "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard",
    "surfboard", "tennis racket", "bottle", "", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana",
    "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "", "dining table", "", "", "toilet", "", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush", "", "banner", "blanket", "branch", "bridge", "building-other",
    "bush", "cabinet", "cage", "cardboard", "carpet", "ceiling-other", "ceiling-tile", "cloth", "clothes",
    "clouds", "counter", "cupboard", "curtain", "desk-stuff", "dirt", "door-stuff", "fence", "floor-marble",
    "floor-other", "floor-stone", "floor-tile", "floor-wood", "flower", "fog", "food-other", "fruit",
    "furniture-other", "grass", "gravel", "ground-other", "hill", "house", "leaves", "light", "mat", "metal",
    "mirror-stuff", "moss", "mountain", "mud", "napkin", "net", "paper", "pavement", "pillow", "plant-other",
    "plastic", "platform", "playingfield", "railing", "railroad", "river", "road", "rock", "roof", "rug", "salad",
    "sand", "sea", "shelf", "sky-other", "skyscraper", "snow", "solid-other", "stairs", "stone", "straw",
    "structural-other", "table", "tent", "textile-other", "towel", "tree", "vegetable", "wall-brick",
    "wall-concrete", "wall-other", "wall-panel", "wall-stone", "wall-tile", "wall-wood", "water-other",
    "waterdrops", "window-blind", "window-other", "wood",
)  # fmt: skip

LABELS = LabelMap(
    classes=tuple(LabelClass(name=name, values=(value,)) for value, name in enumerate(_NAMES) if name),
    ignore=(255,),
)
"""The 171 classes of the ``stuffthingmaps``; 255, unlabelled, is ignored."""


def read_records(root: Path, source: str, findings: Findings) -> list[Record]:
    """The pictures of a split and their masks.

    ``source`` is ``train2017`` or ``val2017``; ``train`` and ``val`` mean the same. Pictures are looked for in
    ``images/<split>`` and ``<split>``, masks in ``stuffthingmaps/<split>`` and ``annotations/<split>``.

    Raises:
        DataError: no such folder, or no picture.
    """
    split = f"{source}2017" if source in ("train", "val") else source
    names = dict.fromkeys((split, source))
    images, masks = find_folders(
        root,
        [f"{folder}{name}" for name in names for folder in ("images/", "")],
        [f"{folder}/{name}" for name in names for folder in ("stuffthingmaps", "annotations")],
    )
    return find_pairs(root, images, masks, findings)
