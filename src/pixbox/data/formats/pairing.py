"""Finding pictures and their masks below the data root, and saying clearly what is not there."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from pixbox.data.findings import Findings
from pixbox.data.formats.reading import read_text
from pixbox.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from pixbox.errors import DataError
from pixbox.sample import Record

_SHOWN_NAMES = 5
_MOST_NUMBERED = 2000


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of a list: its text, and the ``file:line`` where it stands."""

    text: str
    where: str


def read_list(path: Path) -> list[Line]:
    """The entries of a text file: one a line, without blank lines and lines that start with #.

    Raises:
        DataError: it cannot be read, is not UTF-8 text, or has no entry.
    """
    lines = read_lines(path)
    if not lines:
        raise DataError("the list is empty", where=str(path))
    return lines


def read_lines(path: Path) -> list[Line]:
    """As ``read_list``, but there may be no entry.

    Raises:
        DataError: it cannot be read, or is not UTF-8 text.
    """
    stripped = ((number, line.strip()) for number, line in enumerate(read_text(path).split("\n"), start=1))
    return [Line(entry, f"{path}:{number}") for number, entry in stripped if entry and not entry.startswith("#")]


def read_names(path: Path) -> list[str]:
    """Class names, one a line; the first line is the first class.

    Raises:
        DataError: it cannot be read, is not UTF-8 text, is empty, or has a blank line between others.
    """
    names = [line.strip() for line in read_text(path).rstrip().split("\n")]
    if "" in names:
        raise DataError("no class name in this line", where=f"{path}:{names.index('') + 1}",
                        hint="Write one class name a line; the line says which class it is.")  # fmt: skip
    return names


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


def find_file(root: Path, source: str, places: Iterable[str]) -> Path:
    """The annotation file of a split: the first of its possible places below the root that is a file.

    Raises:
        DataError: none is, or one leads out of the root.
    """
    looked = [below(root, place, str(root)) for place in places]
    for path in looked:
        if path.is_file():
            return path
    paths = ", ".join(path.relative_to(root).as_posix() for path in looked)
    raise DataError(f'no annotation file "{source}" here: looked for {paths}', where=str(root),
                    hint=_nearest_contents(root, looked[0].parent), code="structure")  # fmt: skip


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
        raise DataError(f'"{text}" lies outside the data root {root}', where=where, hint=hint, code="outside-root")
    return Path(path)


def find_folders(root: Path, *wanted: Sequence[str]) -> list[Path]:
    """For each folder that is wanted, given as its possible places below the root, the place where it is.

    Raises:
        DataError: a folder is at none of its places, or at several.
    """
    findings = Findings()
    found: list[Path] = []
    for places in wanted:
        paths = [below(root, place, str(root)) for place in places]
        there = [path for path in paths if path.is_dir()]
        found += there[:1]
        if len(there) > 1:
            names = " and ".join(str(path) for path in there)
            hint = "Remove one, or use `format: folders` and name the folders."
            findings.add("structure", str(root), f"it is not clear which to use: {names}", hint)
        elif not there:
            wanted_folders = "no folder " + " or ".join(f"{place}/" for place in places)
            findings.add("structure", str(root), wanted_folders, partial(_nearest_contents, root, paths[0].parent))
    findings.raise_errors()
    return found


def listed_pairs(root: Path, entries: Iterable[tuple[Line, Path, Path]], findings: Findings) -> list[Record]:
    """Records of the (line, picture, mask) that a list gives, in its order.

    Files that do not exist, a picture that is listed twice and two of one name are findings, not records.
    """
    listed = listed_files(root, ((line, (image, mask)) for line, image, mask in entries), findings)
    return [Record(key, image, mask) for key, _, (image, mask) in listed]


def listed_files(
    root: Path, entries: Iterable[tuple[Line, tuple[Path, ...]]], findings: Findings
) -> Iterator[tuple[str, Line, tuple[Path, ...]]]:
    """The entries of a list, a picture and the files that belong to it, that can be used; each with the record id.

    Files that do not exist, a picture that is listed twice and two of one name are findings.
    """
    folders: dict[str, frozenset[str]] = {}
    first: dict[str, tuple[Line, Path]] = {}
    for line, files in entries:
        image = files[0]
        missing = [path for path in files if not _exists(path, folders)]
        key = record_id(root, image)
        for path in missing:
            findings.add("missing-file", line.where, f"no such file: {path}", partial(_what_is_there, path), id=key)
        same_id, other = first.setdefault(key, (line, image))
        if same_id is not line and other == image:
            findings.add("duplicate-line", line.where, f'"{image.name}" is listed twice', f"First at {same_id.where}.")
        elif same_id is not line:
            add_same_name(findings, (other, image), line.where, key)
        elif not missing:
            yield key, line, files


def find_pairs(
    root: Path,
    images: Path,
    masks: Path,
    findings: Findings,
    *,
    image_end: str = "",
    mask_end: str = "",
    only: Sequence[Line] | None = None,
) -> list[Record]:
    """Pictures and masks of two folders (and the folders in them) that have the same name.

    A picture without a mask, a mask without a picture, and a name that is not there or is there twice are
    findings, not records.

    Args:
        root: data root; both folders lie below it.
        images: folder of pictures, all of which need a mask.
        masks: folder of masks; may be, hold or lie in ``images``.
        image_end: what follows the common name in a picture's file name, before its suffix.
        mask_end: the same for masks.
        only: the names to use, relative to ``images``, in this order; all, in natural order, if None.

    Raises:
        DataError: no picture, or pictures and masks cannot be told apart.
    """
    if images == masks and image_end == mask_end:
        raise DataError("pictures and masks lie in one folder and cannot be told apart", where=str(images),
                        hint="Set `mask_suffix` to what follows the picture's name in the mask's.")  # fmt: skip
    pictures = files_by_name(images, IMAGE_SUFFIXES, image_end, without=masks)
    truths = files_by_name(masks, MASK_SUFFIXES, mask_end, without=images)
    if images == masks and mask_end:
        pictures = {name: files for name, files in pictures.items() if not name.endswith(mask_end)}
    records: list[Record] = []
    for name, key, image, mask in same_names(root, images, masks, pictures, truths, only, findings, image_end):
        if mask is None:
            looked = masks / f"{name}{mask_end}"
            message = f"no mask for this picture: looked for {looked} with {' '.join(MASK_SUFFIXES)}"
            findings.add("missing-mask", str(image), message, partial(_masks_there, image, looked, truths), id=key)
        else:
            records.append(Record(key, image, mask))
    return records


def find_annotated(
    root: Path,
    images: Path,
    annotations: Path,
    suffix: str,
    findings: Findings,
    *,
    only: Sequence[Line] | None = None,
    aside: Collection[str] = (),
) -> Iterator[tuple[str, Path, Path | None]]:
    """Record id, picture and annotation file of the same name, or None, in two folders and the folders in them.

    An annotation file without a picture, and a name that is not there or is there twice are findings.

    Args:
        root: data root; both folders lie below it.
        images: folder of pictures.
        annotations: folder of annotation files; may be ``images``.
        suffix: of annotation files, ``.xml``.
        only: the names to use, relative to ``images``, in this order; all, in natural order, if None.
        aside: names without suffix, in lower case, of files that have the suffix but describe no picture.

    Raises:
        DataError: no picture.
    """
    pictures = files_by_name(images, IMAGE_SUFFIXES)
    files = files_by_name(annotations, (suffix,))
    files = {name: found for name, found in files.items() if os.path.basename(name).lower() not in aside}
    for _, key, image, file in same_names(root, images, annotations, pictures, files, only, findings):
        yield key, image, file


def add_missing(findings: Findings, image: Path, key: str, folder: Path, suffix: str) -> None:
    """Note a picture that ``find_annotated`` gave without the annotation file that it needs."""
    message = f"no annotation for this picture: looked for {image.stem}{suffix} in {folder}"
    hint = "Annotate it, remove it, leave it out (`data.exclude`), or give a list of the pictures to use."
    findings.add("missing-mask", str(image), message, hint, id=key)


def same_names(
    root: Path,
    images: Path,
    truths: Path,
    pictures: dict[str, list[str]],
    files: dict[str, list[str]],
    only: Sequence[Line] | None,
    findings: Findings,
    image_end: str = "",
) -> Iterator[tuple[str, str, Path, Path | None]]:
    """Name, record id, picture and file of that name, or None, of two ``files_by_name``.

    Names that are listed but not there or are there twice, and files without a picture, are findings.

    Raises:
        DataError: no picture.
    """
    if not pictures:
        wanted = " ".join(f"*{image_end}{suffix}" for suffix in IMAGE_SUFFIXES)
        raise DataError(f"there are no pictures ({wanted})", where=str(images), hint=f"It holds {contents(images)}.")
    pictures = {name: pictures[name] for name in sorted(pictures, key=natural)}
    for name, where in chosen(root, images, pictures, only, findings):
        image, found = images / pictures[name][0], files.get(name, [])
        key = record_id(root, image)
        if len(pictures[name]) > 1:
            add_same_name(findings, [images / file for file in pictures[name]], where, key)
        elif len(found) > 1:
            add_same_name(findings, [truths / file for file in found], where, key)
        else:
            yield name, key, image, truths / found[0] if found else None
    if only is None:
        for name in sorted(files.keys() - pictures.keys(), key=natural):
            findings.add("unmatched-mask", str(truths / files[name][0]), "no picture of this name", "It is left aside.")


def numbers_as_names(numbers: Collection[int], first: int) -> list[str]:
    """The names of classes that files only number: every number from ``first`` to the largest, also without objects.

    A stray number, as large as it likes, does not make a list of as many names: then those that occur are taken.
    """
    largest = max(numbers, default=first - 1)
    return [str(number) for number in (range(first, largest + 1) if largest <= _MOST_NUMBERED else sorted(numbers))]


def split_folders(name: str) -> tuple[str, ...]:
    """What the folder of a split may be called."""
    return ("val", "valid", "validation") if name == "val" else (name,)


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


def files_by_name(
    folder: Path, suffixes: Collection[str], end: str = "", without: Path | None = None
) -> dict[str, list[str]]:
    """Files in and below a folder (relative paths) by their name, which is the path without end and suffix."""
    files: dict[str, list[str]] = {}
    for relative in _walk(folder, without):
        name, suffix = os.path.splitext(relative)
        if suffix.lower() in suffixes and name.endswith(end):
            files.setdefault(name[: len(name) - len(end)], []).append(relative)
    return files


def _walk(folder: Path, without: Path | None) -> Iterator[str]:
    """Relative paths, with ``/``, of all files; hidden ones and the folder ``without`` are passed over.

    Raises:
        DataError: a folder cannot be listed.
    """
    # A link to a folder above would be followed for ever, and lead to what is none of this folder's.
    seen = {os.path.realpath(above) for above in folder.parents}
    for place, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [
            name for name in folders if not name.startswith(".") and name != "__MACOSX" and Path(place, name) != without
        ]
        inner = Path(place).relative_to(folder).as_posix()
        prefix = "" if inner == "." else f"{inner}/"
        yield from (prefix + name for name in names if not name.startswith("."))


def _refuse(error: OSError) -> None:
    if isinstance(error, FileNotFoundError):
        return  # Who asked for the folder tells what it misses.
    raise DataError(f"this folder cannot be listed ({error.strerror})", where=str(error.filename),
                    code="unreadable-file") from None  # fmt: skip


def chosen(
    root: Path, images: Path, pictures: dict[str, list[str]], only: Sequence[Line] | None, findings: Findings
) -> Iterator[tuple[str, str]]:
    """Names of ``files_by_name(images)`` to use and where each is listed, all of them if ``only`` is None.

    Names that are unknown or listed twice become findings.
    """
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
            key = record_id(root, images / f"{name}.png")
            findings.add("missing-file", line.where, what, f"There are {_some(pictures)}.", id=key)
        elif name in first:
            same = f"First at {first[name].where}."
            findings.add("duplicate-line", line.where, f'"{name}" is listed twice', same)
        else:
            first[name] = line
            yield name, line.where


def stems_to_use(root: Path, folder: Path, ids: str | None, stems: Iterable[str], findings: Findings) -> set[str]:
    """The names, without suffix, of the pictures in a folder that the list ``ids`` holds; all if there is no list.

    Raises:
        DataError: no such list.
    """
    if ids is None:
        return set(stems)
    lines = read_list(below(root, ids, str(root)))
    return {name for name, _ in chosen(root, folder, {stem: [stem] for stem in stems}, lines, findings)}


def add_same_name(findings: Findings, files: Sequence[Path], where: str, id_: str) -> None:
    names = " and ".join(sorted(file.name for file in files))
    message = f"{names} have one name and cannot be told apart"
    hint = "Keep or list one of them, or rename the other."
    findings.add("duplicate-stem", where or str(files[0].parent), message, hint, id=id_)


def _nearest_contents(root: Path, folder: Path) -> str:
    while not folder.is_dir() and folder != root:
        folder = folder.parent
    return f"{folder} holds {contents(folder)}."


def _what_is_there(path: Path) -> str:
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    alike = [name for name in os.listdir(folder) if os.path.splitext(name.lower())[0] == path.stem.lower()]
    return f"There is {folder / min(alike)}." if alike else f"{folder} holds {contents(folder)}."


def _masks_there(image: Path, looked: Path, known: Collection[str]) -> str:
    """What lies where the mask of a picture was looked for (``looked``, a path without suffix)."""
    folder = looked.parent
    if not folder.is_dir():
        return f"There is no folder {folder}."
    longer = [os.path.splitext(name)[0] for name in os.listdir(folder) if name.startswith(image.stem)]
    ends = [name[len(image.stem) :] for name in longer if re.match(r"[\W_]", name[len(image.stem) :])]
    if ends:
        return f'There is {image.stem}{min(ends)}: `format: folders` can be told `mask_suffix: "{min(ends)}"`.'
    there = f"There are masks for {_some(known)}." if known else f"{folder} holds {contents(folder)}."
    return f"{there}\nRemove the picture, leave it out (`data.exclude`), or give a list of the pictures to use."
