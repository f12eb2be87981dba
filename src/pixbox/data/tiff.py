"""TIFF files: what their header says, and the bands that only rasterio reads right.

The header is read here because Pillow knows few kinds of TIFF and takes some for others (signed bytes, bands
that lie one after another), and because rasterio is optional while sizes and clear messages are not.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pixbox.errors import DataError

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""The first four bytes of a TIFF file: little and big endian, classic and BigTIFF."""
WAY_OUT = "Save or copy it again, or leave it out (`data.exclude`)."
"""What to do about a broken file."""

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION = 256, 257, 258, 259, 262, 274
_BANDS, _PLANAR, _EXTRA, _NUMBER, _SUBFILE, _NODATA = 277, 284, 338, 339, 254, 42113
_STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES = 273, 279, 324, 325
_TAGS = {
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _BANDS, _PLANAR, _EXTRA, _NUMBER, _NODATA,
    _STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES,
}  # fmt: skip
_TYPES = {1: "u1", 2: "S1", 3: "u2", 4: "u4", 16: "u8"}
_ALPHA = (1, 2)
_COLOUR_BANDS = {2: 3, 5: 4, 6: 3, 8: 3}

_Tags = dict[int, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class TiffHeader:
    """The first picture of a TIFF file, as its tags describe it.

    Attributes:
        stored_hw: height and width of the stored rows, before they are turned.
        orientation: 1-8, as in EXIF.
        bands: numbers a pixel, alpha among them.
        bits: of a number; of the widest, where bands differ.
        number: what the bits mean.
        photometric: 0 grey that counts from white, 1 grey, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr, 8 Lab.
        extra: meaning of the bands beyond the colours: 1 alpha that the colours are multiplied with, 2 alpha,
            0 anything.
        is_planar: the bands lie one after another.
        is_big_endian: numbers start with their highest byte.
        compression: its number in the TIFF specification; 1 is none.
        nodata: the number that stands for "not measured" (a tag of GDAL's); may be NaN.
        pixels_end: the byte behind the last pixel; a shorter file is incomplete.
        has_holes: strips or tiles were left out; GDAL reads them as zeros.
    """

    stored_hw: tuple[int, int]
    orientation: int
    bands: int
    bits: int
    number: Literal["unsigned", "signed", "float", "other"]
    photometric: int
    extra: tuple[int, ...]
    is_planar: bool
    is_big_endian: bool
    compression: int
    nodata: float | None
    pixels_end: int
    has_holes: bool

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width as a viewer shows the picture."""
        height, width = self.stored_hw
        return (width, height) if self.orientation >= 5 else (height, width)

    @property
    def has_alpha(self) -> bool:
        return any(meaning in _ALPHA for meaning in self.extra)

    @property
    def alpha_is_last(self) -> bool:
        """Whether the last band, and no other, is declared as alpha."""
        return self.extra[-1:] in ((1,), (2,)) and not any(meaning in _ALPHA for meaning in self.extra[:-1])

    @property
    def undeclared_bands(self) -> int:
        """How many bands are neither colours nor alpha."""
        return self.bands - _COLOUR_BANDS.get(self.photometric, 1) - (1 if self.alpha_is_last else 0)

    def __str__(self) -> str:
        kind = {"float": " floats", "signed": " signed", "other": " complex or undefined"}.get(self.number, "")
        return f"a TIFF of {self.bands} band{'s' if self.bands > 1 else ''}, {self.bits} bits{kind}"


def read_tiff_header(file: IO[bytes]) -> TiffHeader:
    """What the first directory says.

    Raises:
        EOFError: the file ends before the header does.
        ValueError: the header contradicts the TIFF specification.
    """
    reader = _Reader(file)
    tags, _ = reader.directory(reader.first, _TAGS)

    def one(tag: int, default: int | None = None) -> int:
        if tag not in tags and default is None:
            raise ValueError(f"tag {tag} is missing")
        return int(tags[tag].max(initial=0)) if tag in tags else int(default or 0)

    stored_hw = one(_HEIGHT), one(_WIDTH)
    orientation = one(_ORIENTATION, 1)
    bands, bits = one(_BANDS, 1), one(_BITS, 1)
    if 0 in (*stored_hw, bands, bits):
        raise ValueError(f"{stored_hw[1]} x {stored_hw[0]} pixels of {bands} bands and {bits} bits")
    offsets = tags.get(_TILE_OFFSETS, tags.get(_STRIP_OFFSETS, np.zeros(0, np.uint64))).astype(np.uint64)
    sizes = tags.get(_TILE_BYTES, tags.get(_STRIP_BYTES, np.zeros(0, np.uint64))).astype(np.uint64)
    parts = min(len(offsets), len(sizes))
    numbers: dict[int, Literal["unsigned", "signed", "float"]] = {1: "unsigned", 2: "signed", 3: "float"}
    return TiffHeader(
        stored_hw=stored_hw,
        orientation=orientation if orientation in range(1, 9) else 1,
        bands=bands,
        bits=bits,
        # 4, "undefined", is read as unsigned by every reader.
        number=numbers.get(one(_NUMBER, 1), "unsigned" if one(_NUMBER, 1) == 4 else "other"),
        photometric=one(_PHOTOMETRIC),
        extra=tuple(int(meaning) for meaning in tags.get(_EXTRA, ())),
        is_planar=one(_PLANAR, 1) == 2,
        is_big_endian=reader.order == ">",
        compression=one(_COMPRESSION, 1),
        nodata=_nodata(tags),
        pixels_end=int((offsets[:parts] + sizes[:parts]).max(initial=0)),
        has_holes=bool((offsets == 0).any()),
    )


def count_pages(file: IO[bytes]) -> int:
    """Pages of a TIFF file whose header is sound; smaller copies (overviews) and masks are none."""
    reader = _Reader(file)
    pages, position, seen = 0, reader.first, set[int]()
    while position and position not in seen:
        seen.add(position)
        try:
            tags, position = reader.directory(position, {_SUBFILE})
        except (EOFError, ValueError):
            break  # The first page counts, whatever follows.
        kind = int(tags[_SUBFILE].max(initial=0)) if _SUBFILE in tags else 0
        pages += not kind & 0b101
    return max(1, pages)


def read_bands(path: Path, data: bytes, header: TiffHeader, bands: Sequence[int]) -> NDArray[Any]:
    """These bands, counted from 1: (H, W, len(bands)) numbers of the file's type, as stored, not yet turned.

    Raises:
        DataError: rasterio is not installed or lacks the file's compression, or the file is incomplete or damaged.
    """
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning
    except ImportError:
        raise DataError(f"is {header}, compression {header.compression}: rasterio is needed to read it",
                        where=str(path), hint='pip install "pixbox[geo]"',
                        code="unsupported-pixels") from None  # fmt: skip
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    try:
        # From memory: beside a file on disk GDAL looks for others that change what it reads.
        with rasterio.MemoryFile(data) as file, file.open(driver="GTiff") as dataset:
            found = dataset.height, dataset.width, dataset.count
            is_expected = found == (*header.stored_hw, header.bands)
            planes: NDArray[Any] = dataset.read(list(bands)) if is_expected else np.empty((0, 0, 0))
    except MemoryError:
        raise
    except Exception as error:
        # GDAL's errors have no common ancestor, and their text names a file in memory.
        if "codec" in str(error):
            raise DataError(f"is compressed in a way (number {header.compression}) that this rasterio cannot read",
                            where=str(path), hint="Save it with another compression, such as deflate.",
                            code="unsupported-pixels") from error  # fmt: skip
        is_whole = header.pixels_end <= len(data)
        raise DataError("the TIFF file is incomplete or damaged: "
                        + ("its pixels cannot be decoded" if is_whole else "it ends too early"), where=str(path),
                        hint=WAY_OUT,
                        code="damaged-file" if is_whole else "truncated-file") from error  # fmt: skip
    if not is_expected:
        raise DataError(f"is {header}, but rasterio finds {found[2]} bands of {found[1]} x {found[0]} pixels",
                        where=str(path), hint="Save it as a plain TIFF.", code="unsupported-pixels")  # fmt: skip
    return np.moveaxis(planes, 0, 2)


def _nodata(tags: _Tags) -> float | None:
    text = tags[_NODATA].tobytes().split(b"\0")[0].decode("latin-1") if _NODATA in tags else ""
    try:
        return float(text)
    except ValueError:
        return None


class _Reader:
    """Directories of a TIFF file; never reads beyond it, whatever lengths it claims."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.length = file.seek(0, 2)
        start = self._bytes(0, 8)
        self.order = "<" if start[:2] == b"II" else ">"
        self.is_big = start[:4] in TIFF_STARTS[2:]
        self.first = self._whole("Q", 8) if self.is_big else self._whole("I", 4)

    def directory(self, position: int, wanted: set[int]) -> tuple[_Tags, int]:
        """The wanted tags of the directory at this byte, and where the next directory stands (0: nowhere)."""
        count_format, entry_format, offset_format = ("Q", "HHQQ", "Q") if self.is_big else ("H", "HHII", "I")
        count = self._whole(count_format, position)
        entry_bytes = struct.calcsize("=" + entry_format)
        entries = position + struct.calcsize("=" + count_format)
        body = self._bytes(entries, count * entry_bytes)
        inline_bytes = struct.calcsize("=" + offset_format)
        tags: _Tags = {}
        for index, (tag, type_, length, offset) in enumerate(struct.iter_unpack(self.order + entry_format, body)):
            if tag not in wanted:
                continue
            if type_ not in _TYPES:
                raise ValueError(f"tag {tag} has the type {type_}")
            dtype = np.dtype(_TYPES[type_]).newbyteorder(self.order)  # type: ignore[arg-type]
            size = length * dtype.itemsize
            here = entries + (index + 1) * entry_bytes - inline_bytes
            tags[tag] = np.frombuffer(self._bytes(here if size <= inline_bytes else offset, size), dtype)
        return tags, self._whole(offset_format, entries + len(body))

    def _whole(self, kind: str, position: int) -> int:
        return int(struct.unpack(self.order + kind, self._bytes(position, struct.calcsize("=" + kind)))[0])

    def _bytes(self, position: int, size: int) -> bytes:
        if position + size > self.length:
            raise EOFError("it ends too early")
        self.file.seek(position)
        return self.file.read(size)
