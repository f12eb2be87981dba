"""What lies in a bare folder, by names alone: every directory is listed once, no file is opened."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from pixbox.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from pixbox.data.splits import SplitName

FILES = frozenset((*IMAGE_SUFFIXES, *MASK_SUFFIXES))
"""Suffixes of what may be a picture or a mask."""
_DOCUMENTS = frozenset((".txt", ".csv", ".json", ".xml", ".yaml", ".yml", ".names"))

_SPLITS: Mapping[str, SplitName] = {
    "train": "train", "training": "train", "trn": "train", "trainset": "train",
    "val": "val", "valid": "val", "validation": "val", "valset": "val", "dev": "val", "eval": "val",
    "test": "test", "testing": "test", "tst": "test", "testset": "test",
}  # fmt: skip
# A word of a split may be glued to one of these: SegNet's `trainannot`, COCO's `train2017`.
_GLUED = r"(annot(ation)?|mask|label|lbl|gt|seg|image|img|picture|photo|list|file|id)s?|x|y|data|\d{1,4}"
_SPLIT = re.compile(
    rf"(?<![a-z])(?P<word>{'|'.join(sorted(_SPLITS, key=len, reverse=True))})(?=$|[^a-z]|(?:{_GLUED})(?![a-z]))"
    rf"|(?<![a-z])(?:{_GLUED})(?P<last>train|val|valid|test)(?![a-z])"
)


@dataclass(frozen=True, slots=True)
class Folder:
    """The files that lie directly in a folder; hidden ones are passed over.

    Attributes:
        path: below the top, with ``/``; empty for the top itself.
        pictures: names of pictures and masks (what ``FILES`` says), sorted.
        images: how many of them may be pictures.
        documents: names of texts, tables, JSON, XML and YAML files, sorted.
        others: how many other files there are.
    """

    path: str
    pictures: tuple[str, ...]
    images: int
    documents: tuple[str, ...]
    others: int


class Survey:
    """All folders in and below one, each listed once.

    Attributes:
        top: absolute path of the folder.
        folders: path below the top -> Folder; the top is ``""``.
    """

    def __init__(self, top: Path) -> None:
        self.top = Path(os.path.abspath(top))
        self.folders: dict[str, Folder] = {}
        for place, names, files in _walk(self.top):
            suffixes = [(name, suffix_of(name)) for name in sorted(files)]
            pictures = tuple(name for name, suffix in suffixes if suffix in FILES)
            images = sum(suffix in IMAGE_SUFFIXES for _, suffix in suffixes)
            documents = tuple(name for name, suffix in suffixes if suffix in _DOCUMENTS)
            others = len(files) - len(pictures) - len(documents)
            self.folders[place] = Folder(place, pictures, images, documents, others)
            names.sort()

    @cached_property
    def children(self) -> Mapping[str, tuple[str, ...]]:
        """Path of a folder -> names of the folders in it."""
        found: dict[str, list[str]] = {path: [] for path in self.folders}
        for path in self.folders:
            if path:
                above, name = os.path.split(path)
                found[above].append(name)
        return {path: tuple(names) for path, names in found.items()}

    @cached_property
    def by_stem(self) -> Mapping[str, tuple[str, ...]]:
        """Stem of a picture or mask file -> the folders in which there is one."""
        found: dict[str, list[str]] = {}
        for folder in self.folders.values():
            for stem in {stem_of(name) for name in folder.pictures}:
                found.setdefault(stem, []).append(folder.path)
        return {stem: tuple(folders) for stem, folders in found.items()}

    def below(self, path: str) -> Iterator[Folder]:
        """The folder and all folders in it."""
        start = f"{path}/" if path else ""
        return (folder for folder in self.folders.values() if folder.path == path or folder.path.startswith(start))

    def has_file(self, path: str) -> bool:
        place, name = os.path.split(path)
        return place in self._names and name in self._names[place]

    @cached_property
    def _names(self) -> Mapping[str, frozenset[str]]:
        return {path: frozenset((*folder.pictures, *folder.documents)) for path, folder in self.folders.items()}

    def file(self, path: str) -> Path:
        """The absolute path."""
        return self.top / path


def _walk(top: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Path below the top, names of folders (to be sorted in place) and of files, of each folder."""
    # A link to a folder above would be followed for ever, and lead through the whole disk.
    seen = {os.path.realpath(above) for above in top.parents}
    for place, folders, files in os.walk(top, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        inner = os.path.relpath(place, top).replace(os.sep, "/")
        yield ("" if inner == "." else inner), folders, [name for name in files if not name.startswith(".")]


def suffix_of(name: str) -> str:
    """``.jpg`` of ``a.JPG``; of names alone, for which this is many times as fast as ``os.path.splitext``."""
    return f".{name.rpartition('.')[2]}".lower() if "." in name[1:] else ""


def stem_of(name: str) -> str:
    """``a`` of ``a.JPG``."""
    return name.rpartition(".")[0] if "." in name[1:] else name


def split_of(name: str) -> tuple[SplitName | None, str]:
    """The part of the data that a folder or file name speaks of, and the name with ``{}`` in that word's place.

    ``train2017`` gives train and ``{}2017``, ``valannot`` val and ``{}annot``, ``valley`` None and ``valley``.
    """
    match = _SPLIT.search(name.lower())
    if match is None:
        return None, name
    kind = "word" if match["word"] else "last"
    start, end = match.span(kind)
    return _SPLITS[match[kind]], f"{name[:start]}{{}}{name[end:]}"


def split_of_path(path: str) -> tuple[SplitName | None, str]:
    """As ``split_of``, of the last part of a path that speaks of one."""
    parts = path.split("/")
    for index in range(len(parts) - 1, -1, -1):
        split, template = split_of(parts[index])
        if split is not None:
            return split, "/".join([*parts[:index], template, *parts[index + 1 :]])
    return None, path


def common_folder(paths: Collection[str]) -> str:
    """The deepest folder that holds all of these folders, itself included; above folders named after a split."""
    shared = os.path.commonpath([f"/{path}" for path in paths]).lstrip("/")
    while shared and split_of(PurePosixPath(shared).name)[0] is not None:
        shared = os.path.dirname(shared)
    return shared


def inside(path: str, folder: str) -> str:
    """A path below the top as a path below one of the folders above it; ``.`` for the folder itself."""
    return (path[len(folder) :].lstrip("/") if folder else path) or "."


def joined(*parts: str) -> str:
    """Paths below the top put together; empty parts and ``.`` do not count."""
    return "/".join(part for part in parts if part not in ("", "."))
