"""Files beside masks that say what the classes are called: a dozen conventions, one table."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixbox.data.formats.reading import read_json, read_text
from pixbox.documents import read_document, validate
from pixbox.errors import ConfigError, PixboxError
from pixbox.labels import MAX_MASK_CLASSES, Color, LabelClass, LabelMap

_FOLDERS_LOOKED_INTO = 64
_LARGEST_FILE = 1 << 20
_LONGEST_LINE = 200
_LONGEST_NAME = 64
_VOID = frozenset(
    ("void", "unlabeled", "unlabelled", "unlabel", "ignore", "ignored", "ignoreregion", "border", "edge", "dontcare")
)

Source = int | Color


@dataclass(frozen=True, slots=True)
class ClassTable:
    """What a file says of the classes.

    Attributes:
        file: which one it is.
        classes: names with the values and colours that the file gives; the colours may be for display only.
        ignored: the same of names that mean "count it nowhere": void, unlabelled, border, ...
        numbered: whether the file states the values; else they are the order of its lines, from 0.
    """

    file: Path
    classes: tuple[LabelClass, ...]
    ignored: tuple[LabelClass, ...]
    numbered: bool

    @property
    def ignore_sources(self) -> tuple[Source, ...]:
        """Values and colours that are to be ignored."""
        values: list[Source] = [value for item in self.ignored for value in item.values]
        return (*values, *(color for item in self.ignored for color in item.colors))


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    value: int | None = None
    color: Color | None = None


def find_class_table(folder: Path) -> ClassTable | None:
    """The table in a folder or up to two levels below it, nearest first; None if there is none that is clear.

    Looked for are labels.yaml, data.yaml, class_dict.csv, classes.csv, _classes.csv, classes.txt, label_colors.txt,
    labelmap.txt, class_names.txt, label_list.txt, labels.txt, label.json, classes.json and meta.json. Files of
    these names that hold something else, or that contradict themselves, are passed over.
    """
    for place in _folders(folder):
        for name, read in _READERS.items():
            table = _read_table(place / name, read)
            if table is not None:
                return table
    return None


def _read_table(file: Path, read: Callable[[Path], list[_Entry]]) -> ClassTable | None:
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST_FILE:
            return None
        own = _read_label_map(file) if file.suffix in (".yaml", ".yml") else None
        return own or _to_table(file, read(file))
    except (PixboxError, OSError, csv.Error):
        return None


def _read_label_map(file: Path) -> ClassTable | None:
    """What our own ``labels.yaml`` says; None if it is another one."""
    try:
        labels = validate(LabelMap, read_document(file))
    except ConfigError:
        return None
    values = tuple(source for source in labels.ignore if isinstance(source, int))
    colors = tuple(source for source in labels.ignore if not isinstance(source, int))
    ignored = (LabelClass(name="ignore", values=values, colors=colors),) if labels.ignore else ()
    return ClassTable(file, labels.classes, ignored, numbered=True)


def _folders(top: Path) -> Iterator[Path]:
    """The folder and those one and two levels below it; of very many the first."""
    level, looked_into = [top], 0
    for _ in range(3):
        below: list[Path] = []
        for place in level:
            if looked_into == _FOLDERS_LOOKED_INTO:
                return
            looked_into += 1
            yield place
            below += _subfolders(place)
        level = below


def _subfolders(place: Path) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []


def _to_table(file: Path, entries: Sequence[_Entry]) -> ClassTable | None:
    """A table, if the entries make a clear one."""
    if not entries or any(not 0 < len(entry.name) <= _LONGEST_NAME for entry in entries):
        return None
    numbered = all(entry.value is not None for entry in entries)
    if not numbered:
        # labelme counts its first line, `__ignore__`, as -1.
        first = -1 if entries[0].name == "__ignore__" else 0
        entries = [_Entry(entry.name, order, entry.color) for order, entry in enumerate(entries, first)]
    colors = [entry.color for entry in entries if entry.color is not None]
    # Equal display colours tell nothing apart.
    has_colors = len(set(colors)) == len(entries)
    if len({entry.value for entry in entries}) < len(entries) or (colors and not has_colors and not numbered):
        return None
    items = [_as_class(entry, with_color=has_colors) for entry in entries]
    ignored = [item for item in items if _means_void(item.name)]
    classes = [item for item in items if not _means_void(item.name)]
    if len({item.name for item in classes}) < len(classes) or not 0 < len(classes) <= MAX_MASK_CLASSES:
        return None
    return ClassTable(file, tuple(classes), tuple(ignored), numbered)


def _as_class(entry: _Entry, *, with_color: bool) -> LabelClass:
    name = entry.name if _means_void(entry.name) else entry.name.strip("_") or entry.name
    # -1, in 8 bits.
    value = 255 if entry.value == -1 else entry.value
    return LabelClass(
        name=name,
        values=() if value is None else (value,),
        colors=(entry.color,) if with_color and entry.color is not None else (),
    )


def _means_void(name: str) -> bool:
    return re.sub(r"[^a-z]", "", name.lower()) in _VOID


# Lines of text.

_NUMBER = r"(?P<value>\d{1,5})"
_RGB = r"(?P<r>\d{1,3})[\s,;]+(?P<g>\d{1,3})[\s,;]+(?P<b>\d{1,3})"
# A name may hold spaces, but nothing that a path, a list or code would.
_NAME = r"(?P<name>[^\s,;:/\\{}<>=\"'][^,;:/\\{}<>=\"]*?)"
_LINES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_NUMBER}\s*[,;:\s]\s*{_NAME}\s*[,;:\s]\s*{_RGB}",
        rf"{_RGB}[\s,;]+{_NAME}",
        rf"{_NAME}\s*[,;:\s]\s*{_RGB}(?::.*)?",
        rf"{_NUMBER}\s*[,;:\s]\s*{_NAME}",
        _NAME,
    )
)
_LOOKS_LIKE_A_FILE = re.compile(r"\.\w{2,4}$|^[\d\s.]+$")


def _read_lines(file: Path) -> list[_Entry]:
    lines = [line.strip() for line in read_text(file).splitlines()]
    return _parse_lines([line for line in lines if line and not line.startswith(("#", "//"))])


def _parse_lines(lines: Sequence[str]) -> list[_Entry]:
    """The entries of lines that are all of one kind; none if they are not."""
    if not 0 < len(lines) <= 4 * MAX_MASK_CLASSES or max(map(len, lines)) > _LONGEST_LINE:
        return []
    for pattern in _LINES:
        matches = [pattern.fullmatch(line) for line in lines]
        if all(matches):
            return _entries(match.groupdict() for match in matches if match)
    return []


def _entries(rows: Iterable[Mapping[str, Any]]) -> list[_Entry]:
    """Entries of rows with ``name`` and perhaps ``value`` or ``r``, ``g``, ``b``; none if any makes no sense."""
    found = []
    for row in rows:
        name = str(row["name"]).strip().strip("'\"")
        value = _as_whole(row.get("value"))
        channels = [_as_whole(row.get(key)) for key in "rgb"]
        red, green, blue = channels
        color = None if red is None or green is None or blue is None else (red, green, blue)
        if _LOOKS_LIKE_A_FILE.search(name) or (value or 0) > 65535 or (color and max(color) > 255):
            return []
        found.append(_Entry(name, value, color))
    return found


def _as_whole(value: Any) -> int | None:
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdigit() else None


# Tables.

_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(("name", "class", "class_name", "classname", "label", "label_name", "category"), "name"),
    **dict.fromkeys(("value", "id", "index", "class_id", "classid", "label_id", "pixel value", "pixel_value"), "value"),
    **dict.fromkeys(("r", "red"), "r"),
    **dict.fromkeys(("g", "green"), "g"),
    **dict.fromkeys(("b", "blue"), "b"),
}  # fmt: skip


def _read_csv(file: Path) -> list[_Entry]:
    text = read_text(file)
    delimiter = ";" if text.count(";") > text.count(",") else ","
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(row)]
    if len(rows) < 2:
        return []
    columns = [_COLUMNS.get(cell.lower().lstrip("# "), "") for cell in rows[0]]
    if "name" not in columns:
        return _parse_lines([",".join(row) for row in rows])
    if any(columns.count(kind) > 1 for kind in ("name", "value", "r", "g", "b")):
        return []
    return _entries(dict(zip(columns, row, strict=True)) for row in rows[1:] if len(row) == len(columns))


# JSON and YAML.

_LISTS = ("classes", "labels", "categories", "names", "class_names")
_NAMES = ("name", "title", "label", "class_name")
_VALUES = ("value", "id", "index", "class_id")
_COLORS = ("color", "colour", "rgb", "palette")


def _read_plain(file: Path) -> list[_Entry]:
    return _parse_plain(read_document(file).value if file.suffix in (".yaml", ".yml") else read_json(file))


def _parse_plain(content: Any) -> list[_Entry]:
    """Entries of a list or mapping of names, or of a mapping that holds one."""
    if isinstance(content, dict):
        inner = [content[key] for key in _LISTS if isinstance(content.get(key), list | dict)]
        if len(inner) == 1:
            return _parse_plain(inner[0])
        # A single pair, and numbers beyond a byte, are rather a setting than a class.
        content = [_pair(key, value) for key, value in content.items()] if len(content) > 1 else None
    if not isinstance(content, list) or len(content) > 4 * MAX_MASK_CLASSES:
        return []
    entries = [_parse_item(item) for item in content]
    return [entry for entry in entries if entry is not None] if all(entries) else []


def _pair(key: Any, value: Any) -> Any:
    """One pair of a mapping as an item: name and number in either order, name and colour, or name and more."""
    if isinstance(value, dict):
        return {"name": key, **value}
    if _as_color(value) is not None:
        return {"name": key, "color": value}
    if isinstance(value, str) and _as_whole(key) is not None:
        return {"name": value, "value": key}
    number = _as_whole(value)
    return {"name": key, "value": value} if number is not None and number < 256 else None


def _parse_item(item: Any) -> _Entry | None:
    if isinstance(item, str):
        return _Entry(item)
    if not isinstance(item, dict):
        return None
    name = next((item[key] for key in _NAMES if isinstance(item.get(key), str)), None)
    if name is None:
        return None
    value = next((number for key in _VALUES if (number := _as_whole(item.get(key))) is not None), None)
    color = next((found for key in _COLORS if (found := _as_color(item.get(key))) is not None), None)
    # Numbers beyond are a database's, not a mask's.
    return _Entry(name, value if value is not None and value <= 65535 else None, color)


def _as_color(value: Any) -> Color | None:
    if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:], 16)
    if isinstance(value, list) and len(value) == 3 and all(type(part) is int and 0 <= part <= 255 for part in value):
        return value[0], value[1], value[2]
    return None


_READERS: Mapping[str, Callable[[Path], list[_Entry]]] = {
    "labels.yaml": _read_plain,
    "labels.yml": _read_plain,
    "data.yaml": _read_plain,
    "class_dict.csv": _read_csv,
    "classes.csv": _read_csv,
    "labels.csv": _read_csv,
    "_classes.csv": _read_csv,
    "classes.txt": _read_lines,
    "label_colors.txt": _read_lines,
    "labelmap.txt": _read_lines,
    "class_names.txt": _read_lines,
    "label_list.txt": _read_lines,
    "labels.txt": _read_lines,
    "label.json": _read_plain,
    "classes.json": _read_plain,
    "meta.json": _read_plain,
}
