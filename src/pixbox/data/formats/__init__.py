"""How data lie on disk: one file per convention, all giving the same Records."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from pixbox.config import DataConfig, FolderPair, Format
from pixbox.data.formats import ade20k, ccp, cityscapes, coco_stuff, folders, list_file, voc
from pixbox.errors import ConfigError, DataError
from pixbox.labels import LabelMap
from pixbox.sample import Record

_READERS: Mapping[Format, Callable[[Path, str], list[Record]]] = {
    "list": list_file.read_records,
    "folders": folders.read_records,
    "voc": voc.read_records,
    "cityscapes": cityscapes.read_records,
    "ade20k": ade20k.read_records,
    "coco-stuff": coco_stuff.read_records,
    "ccp": ccp.read_records,
}
_LABELS: Mapping[Format, LabelMap] = {
    "voc": voc.LABELS,
    "cityscapes": cityscapes.LABELS,
    "ade20k": ade20k.LABELS,
    "coco-stuff": coco_stuff.LABELS,
}


def read_records(data: DataConfig, source: str | FolderPair, origin: str = "") -> list[Record]:
    """The pictures and masks of one split; ids are unique.

    Args:
        data: ``format`` and ``root`` count.
        source: ``data.train``, ``data.val`` or ``data.test``.
        origin: where the data come from; part of the error if the root is missing.

    Raises:
        DataError: a missing root, folder, list, picture or mask; up to ten faults at once.
        ConfigError: folders are given for a format that knows its own.
    """
    root = find_root(data, origin)
    if not isinstance(source, FolderPair):
        return _READERS[data.format](root, source)
    if data.format != "folders":
        raise ConfigError(f"`format: {data.format}` takes the name of a split or list, not folders",
                          where="data", hint="Folders can be named with `format: folders`.")  # fmt: skip
    return folders.read_records(root, source)


def default_labels(data: DataConfig, origin: str = "") -> LabelMap | None:
    """The format's own label map; None where it has none (``list``, ``folders``).

    Raises:
        DataError: it is a file of the data set (``ccp``) and cannot be read.
    """
    if data.format == "ccp":
        return ccp.labels(find_root(data, origin))
    return _LABELS.get(data.format)


def find_root(data: DataConfig, origin: str = "") -> Path:
    """The absolute data root.

    Raises:
        DataError: it is missing or no folder, with where the data come from and how to point to them.
    """
    root = Path(os.path.abspath(data.root))
    if root.is_dir():
        return root
    what = "this file is not a folder" if root.exists() else "no such folder"
    come_from = f"These data come from: {origin.strip()}\n" if origin.strip() else ""
    raise DataError(f"{what}; `data.root` must name the folder of the data", where=str(root),
                    hint=f"{come_from}Say where the data lie: --set data.root=FOLDER")  # fmt: skip
