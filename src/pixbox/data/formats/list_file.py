"""``format: list``: a text file with one ``image;label`` pair a line: a mask, or the class of the whole picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pixbox.data.findings import Findings
from pixbox.data.formats.pairing import Line, below, find_list, listed_files, listed_pairs, natural, read_list
from pixbox.errors import DataError
from pixbox.sample import Record

_FORM = "Write one `image;label` pair a line; a comma, a tab or blanks may part them too."


def read_records(root: Path, source: str, findings: Findings) -> list[Record]:
    """The pairs that the file ``source`` (or ``source.txt``) below the root lists, in its order.

    Blank lines and lines that start with # do not count; backslashes count as slashes. Lines that are no
    pair, files that do not exist or lie outside the root and pictures that are listed twice are findings.

    Raises:
        DataError: no such list.
    """

    def entries() -> Iterator[tuple[Line, Path, Path]]:
        for line, image, label in _pairs(root, source, findings):
            try:
                yield line, image, below(root, label, line.where)
            except DataError as error:
                findings.add_error(error)

    return listed_pairs(root, entries(), findings)


def read_categories(root: Path, source: str, findings: Findings) -> list[Record]:
    """As ``read_records``, but the label is the name of the picture's class.

    Raises:
        DataError: no such list.
    """
    pairs = list(_pairs(root, source, findings))
    names = {line.where: name for line, _, name in pairs}
    listed = listed_files(root, ((line, (image,)) for line, image, _ in pairs), findings)
    return [Record(key, image, names[line.where]) for key, line, (image,) in listed]


def class_names(root: Path, sources: Sequence[str]) -> list[str]:
    """The class names of the lists, in natural order.

    Raises:
        DataError: no such list.
    """
    names = {name for source in sources for _, _, name in _pairs(root, source, Findings())}
    return sorted(names, key=natural)


def _pairs(root: Path, source: str, findings: Findings) -> Iterator[tuple[Line, Path, str]]:
    """Line, picture and label of each entry of a list."""
    for line in read_list(find_list(root, source, ".")):
        fields = _fields(line.text)
        if len(fields) != 2:
            found = "a picture without a label" if len(fields) == 1 else f"{len(fields)} entries"
            findings.add("bad-line", line.where, f'{found} in "{line.text}"', _FORM)
            continue
        try:
            yield line, below(root, fields[0], line.where), fields[1]
        except DataError as error:
            findings.add_error(error)


def _fields(text: str) -> list[str]:
    for separator in ";\t,":
        if separator in text:
            return [part.strip() for part in text.split(separator) if part.strip()]
    return text.split()
