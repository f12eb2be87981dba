"""``format: ccp``: Clothing Co-Parsing, 59 labels in ``.mat`` masks.

Source: Yang, Luo and Lin 2014, Clothing Co-Parsing by Joint Image Segmentation and Labeling.
"""

from __future__ import annotations

import os
from pathlib import Path

from pixbox.data.findings import Findings
from pixbox.data.formats.pairing import Line, find_folders, find_list, find_pairs, natural, read_list
from pixbox.errors import DataError
from pixbox.labels import LabelClass, LabelMap
from pixbox.sample import Record


def read_records(root: Path, source: str, findings: Findings) -> list[Record]:
    """Photos with a pixel-level label: all of them (``source`` is ``all``), or those a list of ids names.

    1,004 of the 2,098 photos of the whole set have one; the others are not listed by ``all`` and are a
    fault where a list names them.

    Raises:
        DataError: no such folder or list.
    """
    images, masks = find_folders(root, ("photos",), ("annotations/pixel-level",))
    if source == "all":
        names = (os.path.splitext(name) for name in os.listdir(masks))
        labelled = sorted((name for name, suffix in names if suffix == ".mat"), key=natural)
        only = [Line(name, str(masks / f"{name}.mat")) for name in labelled]
    else:
        only = read_list(find_list(root, source, ".", hint="`all` stands for every photo with a pixel-level label."))
    return find_pairs(root, images, masks, findings, only=only)


def labels(root: Path) -> LabelMap:
    """The 59 labels that ``label_list.mat`` names, by value; 0, ``null``, is a class: the background.

    Raises:
        DataError: the file is missing or holds no such list.
    """
    from scipy.io import loadmat

    path = root / "label_list.mat"
    if not path.is_file():
        raise DataError("no such file: it names the labels", where=str(path),
                        hint="It comes with the data set; or write `data.labels`.")  # fmt: skip
    try:
        names = [str(cell[0]) for cell in loadmat(str(path))["label_list"][0]]
    except MemoryError:
        raise
    except Exception as error:
        # The reader raises whatever damaged data make it stumble over.
        raise DataError(f"holds no list `label_list` of names ({error})", where=str(path),
                        hint="Copy it again; or write `data.labels`.") from error  # fmt: skip
    black = ((0, 0, 0),)
    return LabelMap(
        classes=tuple(
            LabelClass(name=name, values=(value,), colors=() if value else black) for value, name in enumerate(names)
        )
    )
