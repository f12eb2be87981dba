"""The headers of picture files: what a file is, before any pixel is decoded, and whether it is complete."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from pixbox.data.tiff import TIFF_STARTS, WAY_OUT, TiffHeader, count_pages, read_tiff_header
from pixbox.errors import DataError
from pixbox.files import open_file

# A closed set: some of Pillow's other readers start programs (EPS) or read far more than a picture. The JPEG
# reader gives "MPO" for files of several JPEGs.
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP")
_EXIF_ORIENTATION = 0x0112
_ENDS_EARLY = "it ends too early"
_CHECKSUM = "a checksum is wrong"
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PNG_EXIF_TEXTS = (b"Raw profile type", b"XML:com.adobe.xmp")
# none, CCITT (3), LZW, JPEG, deflate (2), packbits, LZMA, zstd; not every Pillow has the others (WebP).
_PILLOW_COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000)


@dataclass(frozen=True, slots=True)
class Layout:
    """What a stored pixel consists of: ``kind``, ``bands``, ``bits`` and ``has_alpha`` as in ``ImageFacts``.

    ``needs_bands``: the file does not say which of its bands are colours. ``numbers`` names numbers that have no
    natural range, and is empty for others.
    """

    kind: str
    bands: int
    bits: int
    has_alpha: bool
    needs_bands: bool = False
    numbers: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """``image`` is None for a TIFF that only rasterio reads right, ``tiff`` for every other format."""

    image: Image.Image | None
    tiff: TiffHeader | None
    layout: Layout

    @property
    def format(self) -> str:
        return "TIFF" if self.image is None else str(self.image.format)


def read_bytes(path: Path) -> bytes:
    """The whole file.

    Raises:
        DataError: no such file, or it cannot be opened.
    """
    try:
        with open_file(path) as file:
            return file.read()
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> DataError:
    """What to say of a file that the system does not open."""
    if isinstance(error, FileNotFoundError):
        return DataError("no such file", where=str(path), code="missing-file")
    return DataError(f"cannot be read ({error.strerror or error})", where=str(path), code="unreadable-file")


def broken(path: Path, what: str, *, is_cut: bool) -> DataError:
    """What to say of a file whose end is missing (``is_cut``) or whose content is wrong."""
    return DataError(what, where=str(path), hint=WAY_OUT, code="truncated-file" if is_cut else "damaged-file")


def read_header(path: Path, file: IO[bytes]) -> Header:
    """Read the header; the pixels stay on disk. Errors name ``path``.

    Raises:
        DataError: not a picture, a damaged or incomplete header, too many pixels, or colours that no reader knows.
    """
    head = file.read(64)
    if head[:4] in TIFF_STARTS:
        return _open_tiff(path, file)
    file.seek(0)
    try:
        image = Image.open(file, formats=[kind for kind in _FORMATS if kind != "TIFF"])
    except UnidentifiedImageError:
        what, code = _describe(head)
        raise DataError(what, where=str(path), hint=WAY_OUT, code=code) from None
    except Image.DecompressionBombError:
        raise too_large(path) from None
    except Exception as error:
        # Pillow's readers raise whatever a damaged header makes them stumble over.
        is_cut = "truncated" in str(error).lower()
        if head[:4] == b"RIFF":
            is_cut = 8 + int.from_bytes(head[4:8], "little") > file.seek(0, 2)  # The WebP reader wants all of it.
        what = f"the file is incomplete: {_ENDS_EARLY}" if is_cut else f"its header is damaged ({error})"
        raise broken(path, what, is_cut=is_cut) from error
    return Header(image, None, _layout(image, head))


def read_tiff(path: Path, file: IO[bytes]) -> TiffHeader:
    """Read the header of a TIFF of any size. Errors name ``path``.

    Raises:
        DataError: a damaged or incomplete header.
    """
    try:
        return read_tiff_header(file)
    except EOFError as error:
        raise broken(path, f"the TIFF file is incomplete or damaged: {error}", is_cut=True) from None
    except ValueError as error:
        raise broken(path, f"its header is damaged ({error})", is_cut=False) from None


def _open_tiff(path: Path, file: IO[bytes]) -> Header:
    tiff = read_tiff(path, file)
    height, width = tiff.stored_hw
    if Image.MAX_IMAGE_PIXELS is not None and height * width > 2 * Image.MAX_IMAGE_PIXELS:
        raise too_large(path)
    image = None
    if _is_for_pillow(tiff):
        file.seek(0)
        try:
            image = Image.open(file, formats=("TIFF",))
        except Exception:
            image = None  # The header is sound, so it is a kind of TIFF that Pillow does not know.
    if tiff.number == "other" or (image is None and tiff.photometric not in (0, 1, 2)):
        raise DataError(f"is {tiff}, colour space {tiff.photometric}, which cannot be read", where=str(path),
                        hint="Save it as RGB or grey.", code="unsupported-pixels")  # fmt: skip
    return Header(image, tiff, tiff_layout(tiff))


def _is_for_pillow(tiff: TiffHeader) -> bool:
    """Whether Pillow either reads the file right or refuses it; what it misreads is excluded here."""
    if tiff.compression not in _PILLOW_COMPRESSIONS or tiff.has_holes:
        return False
    if tiff.is_planar and (tiff.bits > 8 or (tiff.bands > 1 and (tiff.photometric != 2 or tiff.extra[-1:] == (1,)))):
        return False
    if tiff.is_big_endian and tiff.compression != 1 and (tiff.bits > 16 or tiff.number == "signed"):
        return False  # The decompressed numbers are of this machine's byte order; Pillow turns them.
    # From 7 bands on Pillow complains on standard error.
    return tiff.undeclared_bands == 0 or (tiff.photometric == 2 and tiff.bands <= 6)


def too_large(path: Path) -> DataError:
    """What to say of a file of more pixels than Pillow reads: unpacked, it might fill the memory."""
    return DataError(f"has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels: too large to be read whole",
                     where=str(path), hint="Cut it into tiles, or make it smaller.", code="too-large")  # fmt: skip


def _describe(start: bytes) -> tuple[str, str]:
    """What a file is that no reader knows, and the code of the fault."""
    if not start:
        return "the file is empty", "empty-file"
    if start.startswith(b"version https://git-lfs"):
        what = "is a Git LFS pointer, not a picture (`git lfs pull` fetches the picture)"
    elif all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        what = f'is text, not a picture (it starts with "{start[:24].decode().strip()}")'
    elif not any(start):
        what = "holds zeros only: it was never written completely"
    else:
        what = f"is not a picture that can be read: {', '.join(_FORMATS)} (it starts with {start[:8].hex(' ')})"
    return what, "unreadable-file"


def _layout(image: Image.Image, head: bytes) -> Layout:
    """Of every format but TIFF."""
    has_alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    if image.format == "PNG":
        # Pillow gives RGBA for grey with alpha of 16 bits.
        bits, colour_type = head[24], head[25]
        kind, bands = {0: ("grey", 1), 3: ("palette", 3), 4: ("grey", 2), 6: ("RGB", 4)}.get(colour_type, ("RGB", 3))
        return Layout(kind, bands, bits, has_alpha)
    kinds = {"1": "grey", "L": "grey", "LA": "grey", "P": "palette", "PA": "palette", "RGBA": "RGB", "RGBX": "RGB"}
    bands = {"1": 1, "L": 1, "LA": 2, "RGBA": 4}.get(image.mode, 3)
    return Layout(kinds.get(image.mode, image.mode), bands, 1 if image.mode == "1" else 8, has_alpha)


def tiff_layout(tiff: TiffHeader) -> Layout:
    """What a stored pixel of a TIFF consists of."""
    if tiff.photometric not in (0, 1, 2):
        kind = {3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab"}.get(tiff.photometric, "RGB")
        return Layout(kind, 3, tiff.bits, tiff.has_alpha)
    colours = tiff.bands - (1 if tiff.alpha_is_last else 0)
    is_natural = tiff.number == "unsigned" and tiff.bits <= 16
    needs_bands = (
        colours not in (1, 3)
        or (tiff.has_alpha and not (tiff.alpha_is_last and is_natural))
        or (tiff.photometric == 0 and tiff.bands > 1)
    )
    numbers = ""
    if tiff.number == "float":
        kind, numbers = "float", "floats"
    elif not is_natural:
        kind, numbers = "integer", f"{tiff.bits}-bit integers{' with a sign' if tiff.number == 'signed' else ''}"
    else:
        kind = "bands" if needs_bands else "grey" if colours == 1 else "RGB"
    return Layout(kind, tiff.bands, tiff.bits, tiff.has_alpha, needs_bands, numbers)


def declared_orientation(path: Path, header: Header) -> int:
    """EXIF orientation 1-8, whoever applies it; 1 is upright."""
    if header.tiff is not None:
        return header.tiff.orientation
    # In a PNG the orientation may stand behind the pixels; only the bytes are searched for it.
    return orientation_to_apply(header, path.read_bytes() if header.format == "PNG" else b"")


def orientation_to_apply(header: Header, data: bytes) -> int:
    """How the pixels that Pillow or OpenCV give are to be turned: EXIF orientation 1-8; 1 is upright."""
    image = header.image
    if image is None or image.format == "TIFF":
        return 1  # Pillow turns TIFF pictures itself.
    if image.format == "PNG" and not _may_be_turned(data):
        return 1  # Asking Pillow would make it decode the whole picture.
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:
        return 1  # Damaged metadata do not make the pixels wrong; viewers show such a picture as it is.
    return orientation if orientation in range(1, 9) else 1


def size_hw_of(header: Header, orientation: int) -> tuple[int, int]:
    """Height and width of the picture when it is turned as ``orientation`` says."""
    if header.tiff is not None:
        return header.tiff.size_hw
    assert header.image is not None
    width, height = header.image.size
    return (width, height) if orientation >= 5 else (height, width)


def count_frames(header: Header, file: IO[bytes]) -> int:
    """Frames of an animation or pages of a TIFF; 1 for single pictures."""
    if header.tiff is not None:
        return count_pages(file)
    if header.format == "MPO":
        return 1  # The other pictures of a phone's file are previews and brightness maps.
    try:
        return int(getattr(header.image, "n_frames", 1))
    except Exception:
        return 1  # What is wrong behind the first frame does not matter: only the first is read.


def check_whole(path: Path, header: Header, data: bytes) -> None:
    """Refuse incomplete files before a decoder fills them up, or complains on standard error.

    Raises:
        DataError: bytes are missing, or a checksum of a PNG is wrong.
    """
    problem = ""
    if header.format == "PNG":
        problem = _png_damage(data)
    elif header.format in ("JPEG", "MPO") and not _jpeg_is_whole(data):
        problem = "its end marker is missing"
    elif header.tiff is not None and header.tiff.compression != 1 and header.tiff.pixels_end > len(data):
        # Without compression some writers claim more bytes than there are pixels.
        problem = _ENDS_EARLY
    if problem:
        what = f"the {header.format} file is incomplete or damaged: {problem}"
        raise broken(path, what, is_cut=not problem.startswith(_CHECKSUM))


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether an end marker follows the start of the picture's data (a thumbnail's own does not count)."""
    position = 2
    while 0 <= position < len(data) - 3:
        marker = data[position + 1]
        if data[position] != 0xFF:
            position = data.find(b"\xff", position)
        elif marker == 0xFF:
            position += 1
        elif marker == 0xDA:
            # Within the data every FF is followed by 00 or belongs to a marker.
            return data.find(b"\xff\xd9", position) >= 0
        elif marker == 0x01 or 0xD0 <= marker <= 0xD9:
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def _png_damage(data: bytes) -> str:
    """What is wrong with the chunks of a PNG file; empty if nothing is.

    Pillow skips the checksums of the pixel data and accepts a file whose second half is zeros.
    """
    for kind, start, end in _png_chunks(data):
        checksum = int.from_bytes(data[end : end + 4], "big")
        is_critical = kind[:1].isupper()
        if is_critical and zlib.crc32(memoryview(data)[start - 4 : end]) != checksum:
            return f"{_CHECKSUM} at byte {start - 8}"
        if kind == b"IEND":
            return ""
    return _ENDS_EARLY


def _may_be_turned(data: bytes) -> bool:
    """Whether a PNG file has a place for an EXIF orientation: a chunk for it, or a text that other programs use."""
    return any(
        kind == b"eXIf" or (kind in _PNG_TEXTS and data.startswith(_PNG_EXIF_TEXTS, start))
        for kind, start, _ in _png_chunks(data)
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each complete chunk of a PNG file, and where its content starts and ends."""
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            return
        yield kind, position + 8, end
        position = end + 4
