"""Reading text, JSON and XML files of annotations: whole and right, or an error that says where it is wrong."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from numpy.typing import NDArray

from pixbox.errors import DataError
from pixbox.files import open_file

_WAY_OUT = "Export or copy it again."
_FAR = 1e15


def read_text(path: Path) -> str:
    """The text of a file: UTF-8, with or without a byte order mark, or UTF-16 with one.

    Every line ends with a bare newline; the mark is not part of the text.

    Raises:
        DataError: the file is missing, cannot be read, or is not such text; with the byte.
    """
    data = _read_bytes(path)
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        # The decoder of UTF-8 counts from behind the mark.
        byte = error.start + (len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0)
        raise DataError(f"is not {'UTF-16' if is_utf16 else 'UTF-8'} text (byte {byte})", where=str(path),
                        hint="Save it as UTF-8.") from None  # fmt: skip
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file: dict, list, str, int, float, bool or None. ``NaN`` is read as a float.

    Raises:
        DataError: as ``read_text``; or it is empty, or not JSON, with line and column.
    """
    text = read_text(path)
    if not text.strip():
        raise DataError("the file is empty", where=str(path), hint=_WAY_OUT, code="empty-file")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        what = f"is not JSON: {error.msg.lower()} at line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits; lists within lists without end.
        what = f"is JSON that cannot be read ({error})"
    raise DataError(what, where=str(path), hint=_WAY_OUT, code="bad-annotation")


def read_xml(path: Path) -> Element:
    """The outermost element of an XML file.

    Raises:
        DataError: the file is missing, empty, cannot be read, is not XML, with line and column, or defines entities,
            which can grow without bound or name other files.
    """
    data = _read_bytes(path)
    if not data.strip():
        raise DataError("the file is empty", where=str(path), hint=_WAY_OUT, code="empty-file")
    try:
        element: Element = fromstring(data)
    except DefusedXmlException:
        what = "is XML that defines entities or names other files, which is refused"
    except (ParseError, ValueError, LookupError) as error:
        what = f"is not XML ({error})"
    else:
        return element
    raise DataError(what, where=str(path), hint=_WAY_OUT, code="bad-annotation")


def _read_bytes(path: Path) -> bytes:
    try:
        with open_file(path) as file:
            return file.read()
    except FileNotFoundError:
        raise DataError("no such file", where=str(path), code="missing-file") from None
    except OSError as error:
        raise DataError(f"cannot be read as text ({error.strerror or error})", where=str(path),
                        code="unreadable-file") from None  # fmt: skip


def as_points(value: Any) -> NDArray[np.float64] | None:
    """(K, 2) float64 x, y of a list ``[[x, y], ...]`` or ``[x, y, x, y, ...]``; None if it is anything else.

    Text, truth values, NaN and numbers beyond 1e15 are no coordinates.
    """
    try:
        numbers = np.array(value) if isinstance(value, list) else None
    except ValueError:
        return None
    if numbers is None or numbers.dtype.kind not in "if":
        return None
    is_flat = numbers.ndim == 1 and len(numbers) % 2 == 0
    is_paired = numbers.ndim == 2 and numbers.shape[1] == 2
    points = numbers.astype(np.float64)
    return points.reshape(-1, 2) if (is_flat or is_paired) and (np.abs(points) < _FAR).all() else None


def as_size_hw(height: Any, width: Any) -> tuple[int, int] | None:
    """Height and width in pixels, if both are whole positive numbers (of at most 31 bits)."""
    sides = [side for side in (height, width) if isinstance(side, int | float) and 0 < side < 1 << 31 and side % 1 == 0]
    return (int(sides[0]), int(sides[1])) if len(sides) == 2 else None


def keys_of(content: Any) -> str:
    """``its keys are "images", "info"`` or ``it is a list``: what a JSON file holds instead of what it should."""
    if not isinstance(content, dict):
        return f"it is {'a list' if isinstance(content, list) else 'one value'}"
    shown = ", ".join(f'"{key}"' for key in list(content)[:8])
    return f"its keys are {shown}{', ...' if len(content) > 8 else ''}" if content else "it is empty"
