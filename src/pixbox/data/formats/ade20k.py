"""``format: ade20k``: the scene parsing benchmark's ``images`` and ``annotations``, 150 classes.

Source: Zhou et al. 2017, Scene Parsing through ADE20K Dataset (SceneParse150). Names are the first synonyms.
"""

from __future__ import annotations

from pathlib import Path

from pixbox.data.findings import Findings
from pixbox.data.formats.pairing import find_folders, find_pairs
from pixbox.labels import LabelClass, LabelMap
from pixbox.sample import Record

_NAMES = (
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass", "cabinet",
    "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair", "car", "water",
    "painting", "sofa", "shelf", "house", "sea", "mirror", "rug", "field", "armchair", "seat", "fence", "desk",
    "rock", "wardrobe", "lamp", "bathtub", "railing", "cushion", "base", "box", "column", "signboard",
    "chest of drawers", "counter", "sand", "sink", "skyscraper", "fireplace", "refrigerator", "grandstand", "path",
    "stairs", "runway", "case", "pool table", "pillow", "screen door", "stairway", "river", "bridge", "bookcase",
    "blind", "coffee table", "toilet", "flower", "book", "hill", "bench", "countertop", "stove", "palm",
    "kitchen island", "computer", "swivel chair", "boat", "bar", "arcade machine", "hovel", "bus", "towel",
    "light", "truck", "tower", "chandelier", "awning", "streetlight", "booth", "television", "airplane",
    "dirt track", "apparel", "pole", "land", "bannister", "escalator", "ottoman", "bottle", "buffet", "poster",
    "stage", "van", "ship", "fountain", "conveyer belt", "canopy", "washer", "plaything", "swimming pool", "stool",
    "barrel", "basket", "waterfall", "tent", "bag", "minibike", "cradle", "oven", "ball", "food", "step", "tank",
    "trade name", "microwave", "pot", "animal", "bicycle", "lake", "dishwasher", "screen", "blanket", "sculpture",
    "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan", "pier", "crt screen", "plate", "monitor",
    "bulletin board", "shower", "radiator", "glass", "clock", "flag",
)  # fmt: skip

LABELS = LabelMap(
    classes=tuple(LabelClass(name=name, values=(value,)) for value, name in enumerate(_NAMES, start=1)),
    ignore=(0,),
)
"""The 150 classes, values 1-150; 0, everything else, is ignored."""

_SPLITS = {"train": "training", "val": "validation"}


def read_records(root: Path, source: str, findings: Findings) -> list[Record]:
    """The pictures of ``images/<split>`` and their masks in ``annotations/<split>``.

    ``source`` is ``training`` or ``validation``; ``train`` and ``val`` mean the same.

    Raises:
        DataError: no such folder, or no picture.
    """
    split = _SPLITS.get(source, source)
    images, masks = find_folders(root, (f"images/{split}",), (f"annotations/{split}",))
    return find_pairs(root, images, masks, findings)
