"""How data lie on disk: one file per convention, all giving the same Records."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

from pixbox.config import AnnotatedFolder, DataConfig, FolderPair, Format, Task
from pixbox.data.findings import Findings
from pixbox.data.formats import (
    ade20k,
    box_list,
    ccp,
    cityscapes,
    coco,
    coco_stuff,
    cvat,
    folders,
    imagefolder,
    label_studio,
    labelme,
    list_file,
    objects,
    voc,
    voc_boxes,
    yolo,
)
from pixbox.errors import ConfigError, DataError
from pixbox.labels import MAX_CLASSES, LabelClass, LabelMap
from pixbox.sample import Record

Source = str | FolderPair | AnnotatedFolder

_BY_NAME: Mapping[Format, Callable[[Path, str, Findings], list[Record]]] = {
    "list": list_file.read_records,
    "voc": voc.read_records,
    "cityscapes": cityscapes.read_records,
    "ade20k": ade20k.read_records,
    "coco-stuff": coco_stuff.read_records,
    "ccp": ccp.read_records,
}
"""Formats that know their own folders: a split is a name."""


class _Annotated(Protocol):
    """What a module of a format of named objects or categories has."""

    def read_records(self, root: Path, source: str | AnnotatedFolder, findings: Findings) -> list[Record]: ...

    def class_names(self, root: Path, sources: Sequence[str | AnnotatedFolder]) -> list[str]: ...


_ANNOTATED: Mapping[Format, _Annotated] = {
    "label-studio": label_studio,
    "cvat": cvat,
    "box-list": box_list,
    "voc-boxes": voc_boxes,
    "yolo": yolo,
    "imagefolder": imagefolder,
    "coco": coco,
    "labelme": labelme,
    "objects": objects,
}
"""Formats of outlines, boxes and categories: a split is a name, or pictures and annotations."""
_LABELS: Mapping[Format, LabelMap] = {
    "voc": voc.LABELS,
    "cityscapes": cityscapes.LABELS,
    "ade20k": ade20k.LABELS,
    "coco-stuff": coco_stuff.LABELS,
}


@dataclass(frozen=True)
class Listing:
    """The pictures of one split that can be used, and what was found in listing them.

    What ``data.exclude`` names is in neither; ``ids`` holds all that it could name, excluded and faulty ones too.
    """

    records: list[Record]
    findings: Findings
    ids: frozenset[str]


def list_records(data: DataConfig, source: Source, origin: str = "", task: Task = "segmentation") -> Listing:
    """The pictures of one split with their annotations; what is wrong with single pictures is a finding.

    Args:
        data: ``format``, ``root`` and ``exclude`` count.
        source: ``data.train``, ``data.val`` or ``data.test``.
        origin: where the data come from; part of the error if the root is missing.
        task: what a line of ``format: list`` names beside the picture: a mask, or for classification a class.

    Raises:
        DataError: a missing root, folder or list.
        ConfigError: folders are given for a format that knows its own.
    """
    root = find_root(data, origin)
    findings = Findings(partial(is_excluded, patterns=data.exclude), root)
    if data.format == "list" and task == "classification" and isinstance(source, str):
        records = list_file.read_categories(root, source, findings)
    else:
        records = _read(data.format, root, source, findings)
    ids = frozenset(record.id for record in records) | findings.ids
    return Listing([record for record in records if not is_excluded(record.id, data.exclude)], findings, ids)


def read_records(data: DataConfig, source: Source, origin: str = "", task: Task = "segmentation") -> list[Record]:
    """As ``list_records``, but errors found in listing the pictures are raised.

    Raises:
        DataError: also up to ten errors at once: files that are not there, pictures without a mask, ...
        ConfigError: folders are given for a format that knows its own.
    """
    listing = list_records(data, source, origin, task)
    listing.findings.raise_errors()
    return listing.records


def is_excluded(id_: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern of ``data.exclude`` (``*``, ``?``, ``[...]``) names the picture."""
    names, wild = _compiled(tuple(patterns))
    return id_ in names or any(pattern.match(id_) for pattern in wild)


@lru_cache(maxsize=8)
def _compiled(patterns: tuple[str, ...]) -> tuple[frozenset[str], tuple[re.Pattern[str], ...]]:
    """Plain names and patterns: a thousand excluded names must not cost a thousand comparisons a picture."""
    wild = [pattern for pattern in patterns if any(sign in pattern for sign in "*?[")]
    return frozenset(patterns) - frozenset(wild), tuple(re.compile(translate(pattern)) for pattern in wild)


def _read(name: Format, root: Path, source: Source, findings: Findings) -> list[Record]:
    if name == "folders" and not isinstance(source, AnnotatedFolder):
        return folders.read_records(root, source, findings)
    if name in _ANNOTATED and not isinstance(source, FolderPair):
        return _ANNOTATED[name].read_records(root, source, findings)
    if name in _BY_NAME and isinstance(source, str):
        return _BY_NAME[name](root, source, findings)
    wanted = {
        "folders": "`{images: ..., masks: ...}`",
        **dict.fromkeys(_ANNOTATED, "`{images: ..., annotations: ...}`"),
    }.get(name, "")
    takes = f"the name of a split or list{f', or {wanted}' if wanted else ''}"
    raise ConfigError(f"`format: {name}` takes {takes}", where="data",
                      hint="" if wanted else "Folders can be named with `format: folders`.")  # fmt: skip


def default_labels(data: DataConfig, task: Task, sources: Sequence[Source], origin: str = "") -> LabelMap | None:
    """The format's own label map, or one of the class names that its annotations use; None where there are neither.

    For ``task: segmentation`` value 0 is the background: what no object covers.

    Raises:
        DataError: they are files of the data set and cannot be read.
    """
    if data.format == "ccp":
        return ccp.labels(find_root(data, origin))
    if data.format == "list" and task == "classification":
        lists = [source for source in sources if isinstance(source, str)]
        names = list_file.class_names(find_root(data, origin), lists)
        return labels_of_names(names, task) if names else None
    if data.format not in _ANNOTATED:
        return _LABELS.get(data.format)
    names = _ANNOTATED[data.format].class_names(
        find_root(data, origin), [source for source in sources if not isinstance(source, FolderPair)]
    )
    return labels_of_names(names, task) if names else None


def labels_of_names(names: Sequence[str], task: Task) -> LabelMap:
    """A label map of class names; for segmentation with the background first, unless a name is that already.

    Raises:
        DataError: there are more names than a label map can have.
    """
    if len(names) > MAX_CLASSES:
        raise DataError(f"{len(names):,} class names; there can be {MAX_CLASSES:,}", where="data",
                        hint=f"The first are {', '.join(names[:3])}: are these classes?")  # fmt: skip
    ignored = tuple(name for name in names if name.lower().strip("_") == "ignore")
    kept = [name for name in names if name not in ignored]
    if task == "segmentation":
        background = [name for name in kept if name.lower().strip("_") == "background"][:1]
        kept = [*(background or ["background"]), *(name for name in kept if name not in background)]
    classes = tuple(LabelClass(name=name, values=(value,)) for value, name in enumerate(kept))
    return LabelMap(classes=classes, ignore_names=ignored)


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
