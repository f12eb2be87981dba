"""``format: imagefolder``: a folder a class, as image classification has it: ``train/cat/1.jpg``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixbox.config import AnnotatedFolder
from pixbox.data.findings import Findings
from pixbox.data.formats.pairing import (
    add_same_name,
    contents,
    files_by_name,
    find_folders,
    natural,
    record_id,
    split_folders,
)
from pixbox.data.images import IMAGE_SUFFIXES
from pixbox.errors import ConfigError, DataError
from pixbox.sample import Record


def read_records(root: Path, source: str | AnnotatedFolder, findings: Findings) -> list[Record]:
    """The pictures of a split in natural order; the annotation of each is the name of its class.

    A class is a folder in the folder ``source`` (``.`` for the root; ``val`` may be called ``valid`` or
    ``validation``); the folders in it are searched too. A picture in no class folder is a finding.

    Raises:
        DataError: no such folder, or no picture in any class folder.
        ConfigError: pictures and annotations are named apart.
    """
    folder, pictures = _pictures(root, source)
    records: list[Record] = []
    for name in sorted(pictures, key=natural):
        files = [folder / file for file in pictures[name]]
        key = record_id(root, files[0])
        label, in_folder, _ = name.partition("/")
        if not in_folder:
            hint = f"Move it into the folder of its class, {folder.name}/CLASS/{files[0].name}."
            findings.add("missing-mask", str(files[0]), "this picture is in no class folder", hint, id=key)
        elif len(files) > 1:
            add_same_name(findings, files, "", key)
        else:
            records.append(Record(key, files[0], label))
    return records


def class_names(root: Path, sources: Sequence[str | AnnotatedFolder]) -> list[str]:
    """The folders that hold pictures, in natural order.

    Raises:
        DataError: as ``read_records``.
    """
    names = {name.partition("/")[0] for source in sources for name in _pictures(root, source)[1] if "/" in name}
    return sorted(names, key=natural)


def _pictures(root: Path, source: str | AnnotatedFolder) -> tuple[Path, dict[str, list[str]]]:
    """The folder of a split and ``files_by_name`` of it."""
    if isinstance(source, AnnotatedFolder):
        raise ConfigError("`format: imagefolder` takes the name of a folder of class folders", where="data")
    (folder,) = find_folders(root, split_folders(source))
    pictures = files_by_name(folder, IMAGE_SUFFIXES)
    if not any("/" in name for name in pictures):
        raise DataError("there are no pictures in class folders (CLASS/*.jpg, ...)", where=str(folder),
                        hint=f"It holds {contents(folder)}.")  # fmt: skip
    return folder, pictures
