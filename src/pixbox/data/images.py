"""Reading pictures and masks from files: every pixel right, or an error that names the file.

Pillow reads the header and decides; OpenCV, about twice as fast, decodes the plain 8-bit JPEG and PNG
pictures, for which both give the same pixels, and the 16-bit PNGs, of which Pillow keeps half. TIFFs that Pillow
cannot read, or would misread, go through rasterio. Masks never go through OpenCV, which drops palette indices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixbox.data.headers import (
    Header,
    Layout,
    broken,
    check_whole,
    count_frames,
    declared_orientation,
    orientation_to_apply,
    read_bytes,
    read_header,
    size_hw_of,
    too_large,
    unreadable,
)
from pixbox.data.tiff import WAY_OUT, TiffHeader, read_bands
from pixbox.errors import DataError, Fault
from pixbox.files import open_file
from pixbox.labels import RawMask

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
"""File names that count as pictures where a folder is searched; compared in lower case."""
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".jpg", ".jpeg", ".mat")
"""File names that count as masks where a folder is searched; compared in lower case."""

# Format and mode of the pictures that OpenCV decodes to the same pixels as Pillow.
_PLAIN = {("JPEG", "RGB"), ("JPEG", "L"), ("MPO", "RGB"), ("PNG", "RGB"), ("PNG", "L")}
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_NUMBERS = (*_SIXTEEN_BIT, "I", "F")
# Deflate packs no more bytes into one.
_MOST_PACKED = 1032


@dataclass(frozen=True, slots=True)
class PixelReading:
    """How the numbers of a picture file become red, green and blue.

    Attributes:
        bands: which of the file's bands, counted from 1, become red, green and blue; one may be named several
            times. They are taken as they are: transparency is not laid over white. None for files that say
            themselves what their bands are. Palettes and colours that are not stored as RGB (CMYK) count as the
            three bands of their RGB colours, an alpha band counts as a band.
        value_range: (low, high), the numbers that become 0 and 255; linear between, clipped beyond, rounded to
            the nearest. NaN and the number that a TIFF declares as "no data" become 0. Numbers of fewer than 8
            bits count as spread over 0-255, grey that counts from white as turned. None: numbers of 8 bits stay
            as they are, 16 bits become value // 256; others are refused.
    """

    bands: tuple[int, int, int] | None = None
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.bands is not None and (len(self.bands) != 3 or min(self.bands) < 1):
            raise ValueError(f"bands are three numbers counted from 1, not {self.bands}")
        if self.value_range is not None:
            low, high = self.value_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"a value range is (low, high), low < high, not {self.value_range}")


AS_IT_IS = PixelReading()
"""A picture as a viewer shows it."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the header of a picture file says.

    Attributes:
        format: JPEG, MPO (a JPEG followed by others, as phones write it), PNG, TIFF, BMP, GIF or WEBP.
        size_hw: height and width as ``read_image`` gives them: turned, if ``exif_orientation`` says so.
        bands: how many bands ``PixelReading.bands`` can name; alpha is one, a palette's colours are three.
        bits: of a stored number; of a palette index.
        kind: "grey", "RGB", "palette", "CMYK", "YCbCr", "Lab"; "integer" for numbers of more than 16 bits or with
            a sign and "float" for floating-point numbers, which need ``PixelReading.value_range``; "bands" for a
            TIFF that does not say which of its bands are colours, which needs ``PixelReading.bands``.
        frames: of an animation or pages of a TIFF, of which the first counts; else 1.
        exif_orientation: 1-8, 1 is upright.
        has_alpha: an alpha band or a transparent colour is declared.
    """

    format: str
    size_hw: tuple[int, int]
    bands: int
    bits: int
    kind: str
    frames: int
    exif_orientation: int
    has_alpha: bool


def read_image(path: Path, reading: PixelReading = AS_IT_IS) -> NDArray[np.uint8]:
    """The picture, by default as a viewer shows it: (H, W, 3) uint8 RGB, C-contiguous and writable.

    EXIF orientation is applied; transparency is laid over white; CMYK is converted without a colour profile;
    palettes and grey become RGB, three bands of a TIFF count as RGB; 16 bits a channel become 8 (value // 256, so
    that 65535 is 255); of several frames or pages the first counts. ``reading`` chooses other bands and scales.

    Raises:
        DataError: no such file, not a picture, incomplete or damaged, too large (a decompression bomb), numbers
            without a natural range (floats, 32-bit integers) and no ``value_range``, bands without a natural
            meaning and no ``bands``, a band that the file does not have, or a TIFF that needs rasterio, which is
            not installed.
    """
    data = read_bytes(path)
    header = read_header(path, BytesIO(data))
    check_reading(path, header.layout, reading)
    check_whole(path, header, data)
    if header.image is None or reading != AS_IT_IS:
        return _develop(path, header, data, reading)
    orientation = orientation_to_apply(header, data)
    pixels = _decode_plain(header.image, data)
    if pixels is None:
        _load(path, header, header.image, data)
        pixels = _to_rgb(path, header, header.image)
    return _orient(pixels, orientation)


def read_mask(path: Path) -> RawMask:
    """The numbers or colours of a mask file, unchanged.

    Palette files give their indices and the palette; grey files their values, 16 bits kept; 1-bit files 0 and
    1; colour files (H, W, 3) RGB. Transparency is dropped: the colour below it counts. EXIF orientation is
    applied, as it is to pictures. In ``.mat`` files the array ``groundtruth`` is read, or SBD's
    ``GTcls.Segmentation``, or the only matrix. Integers and floats of other widths are accepted where every
    one is a whole number within 0-65535.

    Raises:
        DataError: no such file, not a picture or ``.mat`` file, incomplete or damaged, several matrices, several
            bands that are no colours, numbers that are no labels, or a TIFF that needs rasterio, which is not
            installed.
    """
    if path.suffix.lower() == ".mat":
        return RawMask(_as_values(path, _read_mat(path)))
    data = read_bytes(path)
    header = read_header(path, BytesIO(data))
    _check_mask(path, header)
    check_whole(path, header, data)
    palette = None
    if header.image is None:
        assert header.tiff is not None
        orientation = header.tiff.orientation
        bands = (1, 2, 3) if header.tiff.photometric == 2 else (1,)
        pixels = _bright_is_high(read_bands(path, data, header.tiff, bands), header.tiff)
    else:
        orientation = orientation_to_apply(header, data)
        _load(path, header, header.image, data)
        pixels = _numbers(header.image, header.tiff)
        if header.image.mode == "P":
            palette = np.array(header.image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    if pixels.ndim == 3:
        pixels = pixels[:, :, :3] if pixels.shape[2] >= 3 else pixels[:, :, 0]
    if pixels.ndim == 2:
        pixels = _as_values(path, pixels)
    return RawMask(np.ascontiguousarray(_orient(pixels, orientation)), palette)


def image_size_hw(path: Path, reading: PixelReading | None = None) -> tuple[int, int]:
    """Height and width that ``read_image`` or ``read_mask`` would give; decodes nothing but ``.mat`` files.

    Raises:
        DataError: no such file, or not a picture or ``.mat`` file; with ``reading`` also where the header tells that
            ``read_image`` would refuse it.
    """
    if path.suffix.lower() == ".mat":
        return read_mask(path).size_hw
    try:
        with open_file(path) as file:
            header = read_header(path, file)
            if reading is not None:
                check_reading(path, header.layout, reading)
            return size_hw_of(header, declared_orientation(path, header))
    except OSError as error:
        raise unreadable(path, error) from None


def describe_image(path: Path) -> ImageFacts:
    """What the header says; decodes nothing.

    Raises:
        DataError: no such file, or not a picture.
    """
    try:
        with open_file(path) as file:
            header = read_header(path, file)
            orientation = declared_orientation(path, header)
            layout = header.layout
            return ImageFacts(
                format=header.format,
                size_hw=size_hw_of(header, orientation),
                bands=layout.bands,
                bits=layout.bits,
                kind=layout.kind,
                frames=count_frames(header, file),
                exif_orientation=orientation,
                has_alpha=layout.has_alpha,
            )
    except OSError as error:
        raise unreadable(path, error) from None


# Checks before anything is decoded


def check_reading(path: Path, layout: Layout, reading: PixelReading) -> None:
    """Refuse numbers and bands whose meaning neither the file nor ``reading`` says.

    Raises:
        DataError: naming the file and the setting that would say it.
    """
    faults: list[Fault] = []

    def refuse(what: str, hint: str) -> None:
        faults.append(Fault(str(path), what, hint, "unsupported-pixels"))

    if reading.bands is None and layout.needs_bands:
        example = "`data.bands: [1, 1, 1]` shows the first as grey"
        if layout.bands > 2:
            example = "`data.bands: [1, 2, 3]` takes the first three, `data.bands: [3, 2, 1]` in the other order"
        refuse(f"has {layout.bands} bands and does not say which are red, green and blue",
               f"Set `data.bands` to the numbers of three bands, counted from 1: {example}.")  # fmt: skip
    elif reading.bands is not None and max(reading.bands) > layout.bands:
        refuse(f"has {layout.bands} band{'s' if layout.bands > 1 else ''}; `data.bands` names {max(reading.bands)}",
               f"Name bands up to {layout.bands}, or leave the file out (`data.exclude`).")  # fmt: skip
    if reading.value_range is None and layout.numbers:
        refuse(f"holds {layout.numbers}, whose brightest value is not known",
               "Set `data.value_range: [low, high]`, the numbers that become black and white.")  # fmt: skip
    if faults:
        raise DataError(faults)


def _check_mask(path: Path, header: Header) -> None:
    """Refuse what names no label; the numbers themselves are checked when they are there."""

    def refuse(what: str, hint: str) -> None:
        raise DataError(what, where=str(path), hint=hint, code="unsupported-pixels")

    tiff, image, layout = header.tiff, header.image, header.layout
    if tiff is not None and tiff.undeclared_bands > 0 and tiff.photometric != 2:
        refuse(f"has {tiff.bands} bands; a mask has one, or the three of RGB colours",
               "Save the band with the class numbers alone.")  # fmt: skip
    is_rgb = tiff.photometric == 2 if tiff is not None else image is not None and image.mode in ("RGB", "RGBA", "RGBX")
    if is_rgb and (layout.bits != 8 or layout.numbers):
        found = layout.numbers or f"{layout.bits} bits"
        refuse(f"holds colours of {found} a channel; masks have 8 bits, or one channel of 16",
               "Save it as 8-bit colours or as one 16-bit channel.")  # fmt: skip
    if image is not None and not is_rgb and image.mode not in ("1", "L", "LA", "La", "P", "PA", *_NUMBERS):
        refuse(f"holds {image.mode} colours, which name no label", "Save the mask as PNG: grey, palette or RGB.")


# Pixels


def _decode_plain(image: Image.Image, data: bytes) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8 RGB by OpenCV, or None where Pillow must decide; the file is known to be complete."""
    kind = str(image.format)
    if (kind, image.mode) not in _PLAIN or "transparency" in image.info:
        return None
    if kind == "PNG" and getattr(image, "is_animated", False):
        return None
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels: NDArray[np.uint8] | None = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    if pixels is None or (pixels.shape[1], pixels.shape[0]) != image.size:
        return None
    cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    return pixels


def _load(path: Path, header: Header, image: Image.Image, data: bytes) -> None:
    """Decode the pixels by Pillow.

    Raises:
        DataError: the file is incomplete or damaged.
    """
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        # Pillow's decoders raise whatever damaged data make them stumble over.
        pixels_end = header.tiff.pixels_end if header.tiff is not None else 0
        is_cut = pixels_end > len(data) or "truncated" in str(error)
        raise broken(path, f"the {header.format} file is incomplete or damaged: {error}", is_cut=is_cut) from error


def _to_rgb(path: Path, header: Header, image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a loaded picture of any mode with a natural range."""
    if image.mode in _SIXTEEN_BIT:
        grey = (_numbers(image, header.tiff) >> (header.layout.bits - 8)).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, _convert(path, image, "RGBA"))
    return np.array(_convert(path, image, "RGB"))


def _convert(path: Path, image: Image.Image, mode: str) -> Image.Image:
    try:
        return (image.convert("LA") if image.mode == "La" else image).convert(mode)
    except ValueError:
        raise DataError(f"its colours ({image.mode}) cannot be turned into RGB", where=str(path),
                        hint="Save it as RGB or grey.", code="unsupported-pixels") from None  # fmt: skip


def _develop(path: Path, header: Header, data: bytes, reading: PixelReading) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, upright, from the numbers that the file stores."""
    tiff, image = header.tiff, header.image
    if tiff is not None and (image is None or _pillow_loses(tiff, image)):
        numbers = _rasterio_numbers(path, tiff, data, reading.bands)
        orientation = tiff.orientation
        bits = max(8, tiff.bits)
    else:
        assert image is not None
        numbers = _pillow_numbers(path, header, image, data, reading.bands)
        orientation = orientation_to_apply(header, data)
        bits = 8 if numbers.dtype == np.uint8 else header.layout.bits
    pixels = develop_numbers(numbers, reading, tiff, bits)
    return np.require(_orient(pixels, orientation), requirements=["C", "W"])


def develop_numbers(
    numbers: NDArray[Any], reading: PixelReading, tiff: TiffHeader | None, bits: int
) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB of a picture's numbers, or of those of a part of it; not turned.

    ``numbers`` is (h, w, C): the chosen bands, or the colours (1 or 3) and alpha, if declared; of so many ``bits``.
    """
    colours, alpha = np.split(numbers, [3 if numbers.shape[2] >= 3 else 1], axis=2)
    value_range, nodata = reading.value_range, tiff.nodata if tiff is not None else None
    if alpha.shape[2] == 0:
        pixels = _scale(colours, bits, value_range, nodata)
    else:
        top = 2**bits - 1
        opacity = alpha.astype(np.float32) / np.float32(top)
        if tiff is not None and tiff.extra[-1:] == (1,):
            # The colours are multiplied with alpha; the value range is that of the colours themselves.
            colours, value_range = colours / np.maximum(opacity, 1 / top), value_range or (0, top)
        colours = _scale(colours, bits, value_range, nodata)
        pixels = np.rint(255 - (255 - colours.astype(np.float32)) * opacity).astype(np.uint8)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels)


def _pillow_loses(tiff: TiffHeader, image: Image.Image) -> bool:
    """Whether Pillow drops bands or half of the 16 bits of colours, or divides colours by their alpha."""
    if tiff.photometric not in (0, 1, 2):
        return False
    return len(image.getbands()) != tiff.bands or (tiff.bands > 1 and tiff.bits > 8) or tiff.extra[-1:] == (1,)


def _rasterio_numbers(path: Path, tiff: TiffHeader, data: bytes, bands: tuple[int, int, int] | None) -> NDArray[Any]:
    """As ``_pillow_numbers``, but not yet turned."""
    return spread_numbers(read_bands(path, data, tiff, bands or natural_bands(tiff)), tiff)


def natural_bands(tiff: TiffHeader) -> tuple[int, ...]:
    """The bands, counted from 1, that are colours, and alpha, if the file declares it."""
    colours = (1, 2, 3) if tiff.bands >= 3 else (1,)
    return (*colours, tiff.bands) if tiff.alpha_is_last else colours


def spread_numbers(numbers: NDArray[Any], tiff: TiffHeader) -> NDArray[Any]:
    """Numbers as a TIFF stores them: grey that counts from white turned, fewer than 8 bits spread over 0-255."""
    numbers = _bright_is_high(numbers, tiff)
    if tiff.number == "unsigned" and tiff.bits < 8:
        numbers = np.rint(numbers * (255 / (2**tiff.bits - 1))).astype(np.uint8)
    return numbers


def _pillow_numbers(
    path: Path, header: Header, image: Image.Image, data: bytes, bands: tuple[int, int, int] | None
) -> NDArray[Any]:
    """(H, W, C) numbers of the chosen bands (C = 3) or, without, of the colours (1 or 3) and of alpha, if declared.

    Fewer than 8 bits are spread over 0-255.
    """
    if header.format == "PNG" and header.layout.bits == 16:
        numbers: NDArray[Any] = _decode_deep_png(path, header, data)
    elif (plain := _decode_plain(image, data)) is not None:
        numbers = plain[:, :, : header.layout.bands]
    else:
        _load(path, header, image, data)
        if image.mode == "1":
            image = image.convert("L")
        elif bands is None and "transparency" in image.info and image.mode in ("L", "RGB"):
            image = image.convert(image.mode + "A")
        elif image.mode not in ("L", "LA", "La", "RGB", "RGBA", "RGBa", *_NUMBERS):
            image = _convert(path, image, "RGBA" if image.has_transparency_data else "RGB")
        numbers = _numbers(image, header.tiff)
    if numbers.ndim == 2:
        numbers = numbers[:, :, None]
    return numbers if bands is None else numbers[:, :, [band - 1 for band in bands]]


def _decode_deep_png(path: Path, header: Header, data: bytes) -> NDArray[np.uint16]:
    """(H, W, C) uint16: the bands of a PNG of 16 bits, then the alpha of its transparent colour, if it has one."""
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    pixels: NDArray[np.uint16] | None = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    if pixels is None or pixels.dtype != np.uint16:
        raise broken(path, "the PNG file is incomplete or damaged: its pixels cannot be decoded", is_cut=False)
    if pixels.ndim == 2:
        return pixels[:, :, None]
    # OpenCV gives blue, green, red, alpha, for grey with alpha, too.
    order = [0, 3] if header.layout.kind == "grey" else [2, 1, 0, 3][: pixels.shape[2]]
    return pixels[:, :, order]


def _numbers(image: Image.Image, tiff: TiffHeader | None) -> NDArray[Any]:
    """(H, W) or (H, W, C) numbers of a loaded picture, of the machine's byte order."""
    numbers = np.asarray(image)
    numbers = numbers.astype(numbers.dtype.newbyteorder("="), copy=False)
    if tiff is None:
        return numbers
    # Pillow has no type for these two, and gives their bits as another.
    if tiff.number == "signed" and tiff.bits == 8:
        return numbers.view(np.int8)
    if tiff.number == "unsigned" and tiff.bits == 32:
        return numbers.view(np.uint32)
    return _bright_is_high(numbers, tiff) if image.mode in _SIXTEEN_BIT else numbers


def _bright_is_high(numbers: NDArray[Any], tiff: TiffHeader) -> NDArray[Any]:
    """Turn grey that counts from white, as Pillow does by itself up to 8 bits."""
    counts_from_white = tiff.photometric == 0 and tiff.bands == 1 and tiff.number == "unsigned" and tiff.bits <= 16
    return numbers.dtype.type(2**tiff.bits - 1) - numbers if counts_from_white else numbers


def _scale(
    numbers: NDArray[Any], bits: int, value_range: tuple[float, float] | None, nodata: float | None
) -> NDArray[np.uint8]:
    """Numbers of any shape as uint8."""
    if value_range is None:
        return numbers if numbers.dtype == np.uint8 else (numbers >> (bits - 8)).astype(np.uint8)
    if numbers.dtype.kind in "iu" and numbers.dtype.itemsize <= 2:
        # A table of all numbers that there can be.
        unsigned = np.dtype(f"u{numbers.dtype.itemsize}")
        every = np.arange(2 ** (8 * unsigned.itemsize), dtype=unsigned).view(numbers.dtype)
        return np.take(_stretch(every, value_range, nodata), numbers.view(unsigned))
    pixels = np.empty(numbers.shape, dtype=np.uint8)
    for band in range(numbers.shape[2]):
        pixels[:, :, band] = _stretch(numbers[:, :, band], value_range, nodata)
    return pixels


def _stretch(numbers: NDArray[Any], value_range: tuple[float, float], nodata: float | None) -> NDArray[np.uint8]:
    low, high = value_range
    with np.errstate(over="ignore", invalid="ignore"):
        levels = numbers.astype(np.float64)
        levels -= low
        levels *= 255 / (high - low)
        # Not `clip`, which keeps NaN: of NaN and a number, `fmax` and `fmin` take the number.
        np.fmin(np.fmax(levels, 0, out=levels), 255, out=levels)
        pixels = np.rint(levels, out=levels).astype(np.uint8)
        if nodata is not None:
            # A float's "no data" is written with more or fewer digits than the float has.
            pixels[numbers == (numbers.dtype.type(nodata) if numbers.dtype.kind == "f" else nodata)] = 0
    return pixels


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
                        hint="Save the mask as class indices, grey values or colours.", code="not-labels")  # fmt: skip
    return array.astype(np.uint8 if array.max(initial=0) <= 255 else np.uint16)


# MATLAB files


def _read_mat(path: Path) -> NDArray[Any]:
    """The label matrix of a MATLAB file, (H, W) of any number type."""
    from scipy.io import loadmat, whosmat

    data = read_bytes(path)
    file: Any = BytesIO(data)
    try:
        most = math.inf if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS
        may_be_too_large = _MOST_PACKED * len(data) > most
        is_too_large = may_be_too_large and any(math.prod(size) > most for _, size, _ in whosmat(file))
        variables = {} if is_too_large else loadmat(file)
    except NotImplementedError:
        raise DataError("is a MATLAB 7.3 (HDF5) file, which cannot be read", where=str(path),
                        hint="Save it in MATLAB with `save(file, 'groundtruth', '-v7')`.",
                        code="unreadable-file") from None  # fmt: skip
    except MemoryError:
        raise
    except Exception as error:
        # The reader raises whatever damaged data make it stumble over.
        what, code = f"is not a .mat file, or incomplete or damaged ({error})", "damaged-file"
        if not data:
            what, code = "the file is empty", "empty-file"
        raise DataError(what, where=str(path), hint=WAY_OUT, code=code) from error
    if is_too_large:
        raise too_large(path)
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
                    hint="Save the label matrix under the name `groundtruth`.", code="unsupported-pixels")  # fmt: skip


def _is_matrix(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 2 and value.size > 0 and value.dtype.kind in "buif"
