"""Reading pictures and masks from files: every pixel right, or an error that names the file.

Pillow reads the header and decides; OpenCV, about twice as fast, decodes the plain 8-bit JPEG and PNG
pictures, for which both give the same pixels. Masks always go through Pillow, which keeps palette indices.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pixbox.errors import DataError
from pixbox.labels import RawMask

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
"""File names that count as pictures where a folder is searched; compared in lower case."""
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".jpg", ".jpeg", ".mat")
"""File names that count as masks where a folder is searched; compared in lower case."""

# A closed set: some of Pillow's other readers start programs (EPS) or read far more than a picture. The JPEG
# reader gives "MPO" for files of several JPEGs.
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP")
# Format and mode of the pictures that OpenCV decodes to the same pixels as Pillow.
_PLAIN = {("JPEG", "RGB"), ("JPEG", "L"), ("MPO", "RGB"), ("PNG", "RGB"), ("PNG", "L")}
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_EXIF_ORIENTATION = 0x0112
_TIFF_BITS_PER_SAMPLE = 258
_WAY_OUT = "Save or copy it again, or leave it out (`data.exclude`)."


def read_image(path: Path) -> NDArray[np.uint8]:
    """The picture as a viewer shows it: (H, W, 3) uint8 RGB, C-contiguous and writable.

    EXIF orientation is applied; transparency is laid over white; CMYK is converted without a colour profile;
    palettes and grey become RGB; 16 bits a channel become 8 (value // 256, so that 65535 is 255); of
    several frames or pages the first counts.

    Raises:
        DataError: no such file, not a picture, incomplete or damaged, too large (a decompression bomb), or
            numbers without a natural range (32-bit integers, floats).
    """
    data = _read_bytes(path)
    image = _open(path, BytesIO(data))
    orientation = _orientation(image, data)
    pixels = _decode_plain(image, data)
    if pixels is None:
        _load(path, image, data)
        pixels = _to_rgb(path, image)
    return _orient(pixels, orientation)


def read_mask(path: Path) -> RawMask:
    """The numbers or colours of a mask file, unchanged.

    Palette files give their indices and the palette; grey files their values, 16 bits kept; 1-bit files 0 and
    1; colour files (H, W, 3) RGB. Transparency is dropped: the colour below it counts. EXIF orientation is
    applied, as it is to pictures. In ``.mat`` files the array ``groundtruth`` is read, or SBD's
    ``GTcls.Segmentation``, or the only matrix. Integers and floats of other widths are accepted where every
    one is a whole number within 0-65535.

    Raises:
        DataError: no such file, not a picture or ``.mat`` file, incomplete or damaged, several matrices, or
            numbers that are no labels.
    """
    if path.suffix.lower() == ".mat":
        return RawMask(_as_values(path, _read_mat(path)))
    data = _read_bytes(path)
    image = _open(path, BytesIO(data))
    orientation = _orientation(image, data)
    _load(path, image, data)
    palette = None
    pixels = np.asarray(image)
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    elif image.mode in ("LA", "PA"):
        pixels = pixels[:, :, 0]
    elif image.mode in ("RGB", "RGBA", "RGBX"):
        if _bits(image, data) > 8:
            raise DataError("holds colours of 16 bits a channel; masks have 8 bits, or one channel of 16",
                            where=str(path), hint="Save it as 8-bit colours or as one 16-bit channel.")  # fmt: skip
        pixels = pixels[:, :, :3]
    elif image.mode not in ("1", "L", "I", "F", *_SIXTEEN_BIT):
        raise DataError(f"holds {image.mode} colours, which name no label", where=str(path),
                        hint="Save the mask as PNG: grey, palette or RGB.")  # fmt: skip
    if pixels.ndim == 2:
        pixels = _as_values(path, pixels)
    return RawMask(np.ascontiguousarray(_orient(pixels, orientation)), palette)


def image_size_hw(path: Path) -> tuple[int, int]:
    """Height and width that ``read_image`` or ``read_mask`` would give; decodes nothing but ``.mat`` files.

    Raises:
        DataError: no such file, or not a picture or ``.mat`` file.
    """
    if path.suffix.lower() == ".mat":
        return read_mask(path).size_hw
    try:
        with path.open("rb") as file:
            image = _open(path, file)
            # In a PNG the orientation may stand behind the pixels; only the bytes are searched for it.
            orientation = _orientation(image, path.read_bytes() if image.format == "PNG" else b"")
    except OSError as error:
        raise _unreadable(path, error) from None
    width, height = image.size
    return (width, height) if orientation >= 5 else (height, width)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError("no such file", where=str(path))
    return DataError(f"cannot be read ({error.strerror or error})", where=str(path))


def _open(path: Path, file: IO[bytes]) -> Image.Image:
    """Read the header; the pixels stay on disk."""
    try:
        return Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        raise DataError(_describe(file.read(64)), where=str(path), hint=_WAY_OUT) from None
    except Image.DecompressionBombError:
        raise DataError(f"has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels: too large to be read whole",
                        where=str(path), hint="Cut it into tiles, or make it smaller.") from None  # fmt: skip
    except Exception as error:
        # Pillow's readers raise whatever a damaged header makes them stumble over.
        raise DataError(f"its header is damaged ({error})", where=str(path), hint=_WAY_OUT) from error


def _describe(start: bytes) -> str:
    """What a file is that no reader knows."""
    if not start:
        return "the file is empty"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not a picture (`git lfs pull` fetches the picture)"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return f'is text, not a picture (it starts with "{start[:24].decode().strip()}")'
    if not any(start):
        return "holds zeros only: it was never written completely"
    return f"is not a picture that can be read: {', '.join(_FORMATS)} (it starts with {start[:8].hex(' ')})"


def _orientation(image: Image.Image, data: bytes) -> int:
    """EXIF orientation 1-8; 1 is upright."""
    if image.format == "TIFF":
        return 1  # Pillow turns TIFF pictures itself.
    places = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
    if image.format == "PNG" and not any(place in data for place in places):
        return 1  # Asking Pillow would make it decode the whole picture.
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:
        return 1  # Damaged metadata do not make the pixels wrong; viewers show such a picture as it is.
    return orientation if orientation in range(1, 9) else 1


def _decode_plain(image: Image.Image, data: bytes) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8 RGB by OpenCV, or None where Pillow must decide."""
    kind = str(image.format)
    if (kind, image.mode) not in _PLAIN or "transparency" in image.info:
        return None
    if kind == "PNG" and getattr(image, "is_animated", False):
        return None
    if kind != "PNG" and not _jpeg_is_whole(data):
        return None  # OpenCV may return what is missing as grey.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels: NDArray[np.uint8] | None = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    if pixels is None or (pixels.shape[1], pixels.shape[0]) != image.size:
        return None
    cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    return pixels


def _load(path: Path, image: Image.Image, data: bytes) -> None:
    """Decode the pixels.

    Raises:
        DataError: the file is incomplete or damaged.
    """
    problem = ""
    if image.format == "PNG":
        problem = _png_damage(data)
    elif image.format in ("JPEG", "MPO") and not _jpeg_is_whole(data):
        problem = "its end marker is missing"
    if problem:
        raise DataError(f"the {image.format} file is incomplete or damaged: {problem}",
                        where=str(path), hint=_WAY_OUT)  # fmt: skip
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        # Pillow's decoders raise whatever damaged data make them stumble over.
        raise DataError(f"the {image.format} file is incomplete or damaged: {error}",
                        where=str(path), hint=_WAY_OUT) from error  # fmt: skip


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
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        checksum = int.from_bytes(data[end : end + 4], "big")
        is_critical = kind[:1].isupper()
        if is_critical and zlib.crc32(memoryview(data)[position + 4 : end]) != checksum:
            return f"a checksum is wrong at byte {position}"
        if kind == b"IEND":
            return ""
        position = end + 4
    return "it ends too early"


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits per channel in the file, for colour pictures of the formats that can have more than 8."""
    if image.format == "PNG":
        return data[24]
    if image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        return int(max(tags.get(_TIFF_BITS_PER_SAMPLE, (8,))))
    return 8


def _to_rgb(path: Path, image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a loaded picture of any mode."""
    if image.mode in _SIXTEEN_BIT:
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floats"
        raise DataError(f"holds {kind}, whose brightest value is not known", where=str(path),
                        hint="Scale it and save it with 8 or 16 bits a channel.")  # fmt: skip
    try:
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        return np.array(image.convert("RGB"))
    except ValueError:
        raise DataError(f"its colours ({image.mode}) cannot be turned into RGB", where=str(path),
                        hint="Save it as RGB or grey.") from None  # fmt: skip


def _orient(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror as EXIF orientation 1-8 says."""
    turns = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}
    if orientation == 1:
        return pixels
    if orientation in turns:
        return np.asarray(cv2.rotate(pixels, turns[orientation]))
    if orientation in (2, 4):
        return np.asarray(cv2.flip(pixels, 1 if orientation == 2 else 0))
    turned = cv2.transpose(pixels)
    return np.asarray(turned if orientation == 5 else cv2.rotate(turned, cv2.ROTATE_180))


def _as_values(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    """Any numbers as uint8 or uint16, if that changes none of them."""
    if array.dtype in (np.uint8, np.uint16):
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    with np.errstate(invalid="ignore"):
        wrong = ~((array >= 0) & (array <= 65535) & (array == np.floor(array)))
    if bool(wrong.any()):
        row, column = (int(part) for part in np.argwhere(wrong)[0])
        raise DataError(f"value {array[row, column]} at row {row}, column {column} is no label: "
                        "labels are whole numbers within 0-65535", where=str(path),
                        hint="Save the mask as class indices, grey values or colours.")  # fmt: skip
    return array.astype(np.uint8 if array.max(initial=0) <= 255 else np.uint16)


def _read_mat(path: Path) -> NDArray[Any]:
    """The label matrix of a MATLAB file, (H, W) of any number type."""
    from scipy.io import loadmat

    data = _read_bytes(path)
    file: Any = BytesIO(data)
    try:
        variables = loadmat(file)
    except NotImplementedError:
        raise DataError("is a MATLAB 7.3 (HDF5) file, which cannot be read", where=str(path),
                        hint="Save it in MATLAB with `save(file, 'groundtruth', '-v7')`.") from None  # fmt: skip
    except MemoryError:
        raise
    except Exception as error:
        # The reader raises whatever damaged data make it stumble over.
        what = "the file is empty" if not data else f"is not a .mat file, or incomplete or damaged ({error})"
        raise DataError(what, where=str(path), hint=_WAY_OUT) from error
    struct = variables.get("GTcls")
    if isinstance(struct, np.ndarray) and "Segmentation" in (struct.dtype.names or ()):
        variables = {"GTcls.Segmentation": struct["Segmentation"][0, 0]}
    matrices = {name: value for name, value in variables.items() if _is_matrix(value)}
    if "groundtruth" in variables:
        matrices = {name: value for name, value in matrices.items() if name == "groundtruth"}
    if len(matrices) > 1:
        # Numbers that describe the file (a size, a version) are 1 x 1 matrices in MATLAB.
        matrices = {name: value for name, value in matrices.items() if value.size > 1}
    if len(matrices) == 1:
        return next(iter(matrices.values()))
    shapes = ", ".join(f"{name} {value.shape[0]}x{value.shape[1]}" for name, value in matrices.items())
    found = f"several matrices: {shapes}" if matrices else "no matrix of labels"
    raise DataError(f"holds {found}; looked for `groundtruth`", where=str(path),
                    hint="Save the label matrix under the name `groundtruth`.")  # fmt: skip


def _is_matrix(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 2 and value.size > 0 and value.dtype.kind in "buif"
