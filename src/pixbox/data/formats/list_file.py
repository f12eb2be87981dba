"""``format: list``: a text file with one ``image;label`` pair a line, paths relative to the data root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pixbox.data.findings import Findings
from pixbox.data.formats.pairing import Line, below, find_list, listed_pairs, read_list
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
    return listed_pairs(root, _entries(root, read_list(find_list(root, source, ".")), findings), findings)


def _entries(root: Path, lines: list[Line], findings: Findings) -> Iterator[tuple[Line, Path, Path]]:
    for line in lines:
        fields = _fields(line.text)
        if len(fields) != 2:
            found = "a picture without a label" if len(fields) == 1 else f"{len(fields)} entries"
            findings.add("bad-line", line.where, f'{found} in "{line.text}"', _FORM)
            continue
        try:
            image, mask = (below(root, field, line.where) for field in fields)
        except DataError as error:
            findings.add_error(error)
        else:
            yield line, image, mask


def _fields(text: str) -> list[str]:
    for separator in ";\t,":
        if separator in text:
            return [part.strip() for part in text.split(separator) if part.strip()]
    return text.split()
