"""Finding pictures and their masks below the data root, and saying clearly what is not there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ParamSpec

from pixbox.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from pixbox.errors import DataError, Fault
from pixbox.sample import Record

P = ParamSpec("P")
_SHOWN_FAULTS = 10
_SHOWN_NAMES = 5


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of a list: its text, and the ``file:line`` where it stands."""

    text: str
    where: str


class FaultList:
    """Faults that are raised together: the first ten, and how many more there are."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._more = 0

    def add(self, describe: Callable[P, Fault], *args: P.args, **kwargs: P.kwargs) -> None:
        """Note a fault; ``describe`` is not called where it would not be shown."""
        if len(self._faults) < _SHOWN_FAULTS:
            self._faults.append(describe(*args, **kwargs))
        else:
            self._more += 1

    def add_all(self, error: DataError) -> None:
        """Note the faults of an error that was caught."""
        for fault in error.faults:
            self.add(Fault, fault.where, fault.what, fault.hint)

    def raise_any(self) -> None:
        """Raise one DataError if there is any fault."""
        if self._more:
            self._faults.append(Fault("", f"and {self._more:,} more like these"))
        if self._faults:
            raise DataError(self._faults)


def read_list(path: Path) -> list[Line]:
    """The entries of a text file: one a line, without blank lines and lines that start with #.

    Raises:
        DataError: it cannot be read, is not UTF-8 text, or has no entry.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 text (byte {error.start})", where=str(path),
                        hint="Save the list as UTF-8.") from None  # fmt: skip
    except OSError as error:
        raise DataError(f"cannot be read as a list ({error.strerror or error})", where=str(path)) from None
    stripped = ((number, line.strip()) for number, line in enumerate(text.split("\n"), start=1))
    lines = [Line(entry, f"{path}:{number}") for number, entry in stripped if entry and not entry.startswith("#")]
    if not lines:
        raise DataError("the list is empty", where=str(path))
    return lines


def find_list(root: Path, source: str, *folders: str, hint: str = "") -> Path:
    """The list file ``source`` or ``source.txt`` in the first of the folders below the root that has it.

    Raises:
        DataError: none has it, or ``source`` leads out of the root.
    """
    names = [source] if source.endswith(".txt") else [source, f"{source}.txt"]
    looked = [below(root, os.path.join(folder, name), str(root)) for folder in folders for name in names]
    for path in looked:
        if path.is_file():
            return path
    paths = ", ".join(path.relative_to(root).as_posix() for path in looked)
    holds = f"{looked[0].parent} holds {contents(looked[0].parent)}." if looked[0].parent.is_dir() else ""
    holds = holds or f"It holds {contents(root)}."
    raise DataError(f'no list "{source}" here: looked for {paths}', where=str(root), hint=f"{holds}\n{hint}".strip())


def below(root: Path, text: str, where: str) -> Path:
    """The absolute path of what is written relative to the data root; backslashes count as slashes.

    Raises:
        DataError: it lies outside the root.
    """
    # Plain text, not Path arithmetic: lists have 100,000 lines.
    top = str(root)
    path = os.path.normpath(os.path.join(top, text.replace("\\", "/")))
    if path != top and not path.startswith(os.path.join(top, "")):
        hint = "Paths are relative to `data.root`; set that to a folder that holds everything."
        raise DataError(f'"{text}" lies outside the data root {root}', where=where, hint=hint)
    return Path(path)


def find_folders(root: Path, *wanted: Sequence[str]) -> list[Path]:
    """For each folder that is wanted, given as its possible places below the root, the place where it is.

    Raises:
        DataError: a folder is at none of its places, or at several.
    """
    faults = FaultList()
    found: list[Path] = []
    for places in wanted:
        paths = [below(root, place, str(root)) for place in places]
        there = [path for path in paths if path.is_dir()]
        found += there[:1]
        if len(there) > 1:
            names = " and ".join(str(path) for path in there)
            hint = "Remove one, or use `format: folders` and name the folders."
            faults.add(Fault, str(root), f"it is not clear which to use: {names}", hint)
        elif not there:
            faults.add(_no_folder, root, paths, places)
    faults.raise_any()
    return found


def listed_pairs(root: Path, entries: Iterable[tuple[Line, Path, Path]]) -> list[Record]:
    """Records of the (line, picture, mask) that a list gives, in its order.

    Raises:
        DataError: files that do not exist, a picture that is listed twice, or two of one name.
    """
    folders: dict[str, frozenset[str]] = {}
    faults = FaultList()
    first: dict[str, tuple[Line, Path]] = {}
    records: list[Record] = []
    for line, image, mask in entries:
        missing = [path for path in (image, mask) if not _exists(path, folders)]
        for path in missing:
            faults.add(_no_file, path, line.where)
        key = record_id(root, image)
        same_id, other = first.setdefault(key, (line, image))
        if same_id is not line and other == image:
            faults.add(_twice, image.name, line, same_id)
        elif same_id is not line:
            faults.add(_same_name, (other, image), line.where)
        elif not missing:
            records.append(Record(key, image, mask))
    faults.raise_any()
    return records


def find_pairs(
    root: Path,
    images: Path,
    masks: Path,
    *,
    image_end: str = "",
    mask_end: str = "",
    only: Sequence[Line] | None = None,
) -> list[Record]:
    """Pictures and masks of two folders (and the folders in them) that have the same name.

    Args:
        root: data root; both folders lie below it.
        images: folder of pictures, all of which need a mask.
        masks: folder of masks, those without a picture are left aside; may be, hold or lie in ``images``.
        image_end: what follows the common name in a picture's file name, before its suffix.
        mask_end: the same for masks.
        only: the names to use, relative to ``images``, in this order; all, in natural order, if None.

    Raises:
        DataError: no picture, a picture without a mask, a name that is not there or is there twice.
    """
    if images == masks and image_end == mask_end:
        raise DataError("pictures and masks lie in one folder and cannot be told apart", where=str(images),
                        hint="Set `mask_suffix` to what follows the picture's name in the mask's.")  # fmt: skip
    pictures = _by_name(images, IMAGE_SUFFIXES, image_end, without=masks)
    truths = _by_name(masks, MASK_SUFFIXES, mask_end, without=images)
    if images == masks and mask_end:
        pictures = {name: files for name, files in pictures.items() if not name.endswith(mask_end)}
    pictures = {name: pictures[name] for name in sorted(pictures, key=natural)}
    if not pictures:
        wanted = " ".join(f"*{image_end}{suffix}" for suffix in IMAGE_SUFFIXES)
        raise DataError(f"there are no pictures ({wanted})", where=str(images), hint=f"It holds {contents(images)}.")
    faults = FaultList()
    records: list[Record] = []
    for name, where in _chosen(pictures, only, faults):
        image, mask = images / pictures[name][0], truths.get(name, [])
        if len(pictures[name]) > 1:
            faults.add(_same_name, [images / file for file in pictures[name]], where)
        elif len(mask) > 1:
            faults.add(_same_name, [masks / file for file in mask], where)
        elif not mask:
            faults.add(_without_mask, image, masks / f"{name}{mask_end}", truths)
        else:
            records.append(Record(record_id(root, image), image, masks / mask[0]))
    faults.raise_any()
    return records


def record_id(root: Path, image: Path) -> str:
    """``Record.id``: the path below the root without its suffix, with ``/``."""
    return os.path.splitext(str(image)[len(os.path.join(root, "")) :])[0].replace(os.sep, "/")


def contents(folder: Path) -> str:
    """``train/, val/, labels.yaml``: the first names in a folder, and how many there are."""
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    return _some(sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries))


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key by which ``frame10`` follows ``frame9``."""
    # The parts alternate between text and digits, so that numbers are only compared with numbers.
    return [(int(part), part) if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _some(names: Collection[str]) -> str:
    if not names:
        return "nothing"
    shown = ", ".join(islice(names, _SHOWN_NAMES))
    return shown if len(names) <= _SHOWN_NAMES else f"{shown}, ... ({len(names):,} in all)"


def _exists(path: Path, folders: dict[str, frozenset[str]]) -> bool:
    """Whether there is such a file; each folder is listed once, so that a long list costs no look-up per file."""
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = frozenset(os.listdir(folder)) if os.path.isdir(folder) else frozenset()
    return name in folders[folder]


def _by_name(folder: Path, suffixes: Collection[str], end: str, without: Path) -> dict[str, list[str]]:
    """Files in and below a folder (relative paths) by their name, which is the path without end and suffix."""
    files: dict[str, list[str]] = {}
    for relative in _walk(folder, without):
        name, suffix = os.path.splitext(relative)
        if suffix.lower() in suffixes and name.endswith(end):
            files.setdefault(name[: len(name) - len(end)], []).append(relative)
    return files


def _walk(folder: Path, without: Path) -> Iterator[str]:
    """Relative paths, with ``/``, of all files; hidden ones and the folder ``without`` are passed over."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # A link to a folder above it would be followed for ever.
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [
            name for name in folders if not name.startswith(".") and name != "__MACOSX" and Path(place, name) != without
        ]
        inner = Path(place).relative_to(folder).as_posix()
        prefix = "" if inner == "." else f"{inner}/"
        yield from (prefix + name for name in names if not name.startswith("."))


def _chosen(
    pictures: dict[str, list[str]], only: Sequence[Line] | None, faults: FaultList
) -> Iterator[tuple[str, str]]:
    """Names to use and where each is listed; names that are unknown or listed twice become faults."""
    if only is None:
        yield from ((name, "") for name in pictures)
        return
    first: dict[str, Line] = {}
    for line in only:
        name = line.text.replace("\\", "/").removeprefix("./")
        if name not in pictures and name.lower().endswith(IMAGE_SUFFIXES):
            name = os.path.splitext(name)[0]
        if name not in pictures:
            what = f'no picture is called "{line.text}"'
            faults.add(Fault, line.where, what, f"There are {_some(pictures)}.")
        elif name in first:
            faults.add(_twice, name, line, first[name])
        else:
            first[name] = line
            yield name, line.where


def _no_folder(root: Path, looked: Sequence[Path], places: Sequence[str]) -> Fault:
    there = looked[0].parent
    while not there.is_dir() and there != root:
        there = there.parent
    what = "no folder " + " or ".join(f"{place}/" for place in places)
    return Fault(str(root), what, f"{there} holds {contents(there)}.")


def _no_file(path: Path, where: str) -> Fault:
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    alike = [name for name in os.listdir(folder) if os.path.splitext(name.lower())[0] == path.stem.lower()]
    hint = f"There is {folder / min(alike)}." if alike else f"{folder} holds {contents(folder)}."
    return Fault(where, f"no such file: {path}", hint)


def _twice(name: str, line: Line, first: Line) -> Fault:
    return Fault(line.where, f'"{name}" is listed twice', f"First at {first.where}.")


def _same_name(files: Sequence[Path], where: str) -> Fault:
    names = " and ".join(sorted(file.name for file in files))
    what = f"{names} have one name and cannot be told apart"
    return Fault(where or str(files[0].parent), what, "Keep or list one of them, or rename the other.")


def _without_mask(image: Path, looked: Path, known: Collection[str]) -> Fault:
    """The fault of a picture whose mask is not at ``looked`` (a path without suffix), with what is there."""
    what = f"no mask for this picture: looked for {looked} with {' '.join(MASK_SUFFIXES)}"
    folder = looked.parent
    if not folder.is_dir():
        return Fault(str(image), what, f"There is no folder {folder}.")
    longer = [os.path.splitext(name)[0] for name in os.listdir(folder) if name.startswith(image.stem)]
    ends = [name[len(image.stem) :] for name in longer if re.match(r"[\W_]", name[len(image.stem) :])]
    if ends:
        hint = f'There is {image.stem}{min(ends)}: `format: folders` can be told `mask_suffix: "{min(ends)}"`.'
        return Fault(str(image), what, hint)
    there = f"There are masks for {_some(known)}." if known else f"{folder} holds {contents(folder)}."
    return Fault(str(image), what, f"{there}\nRemove the picture, or give a list of the pictures to use.")
