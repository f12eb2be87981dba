"""What each picture file holds and what is odd about it, found in one decoding."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixbox.data.annotation import size_text
from pixbox.data.findings import Finding
from pixbox.data.images import AS_IT_IS, ImageFacts, PixelReading, describe_image, read_image
from pixbox.errors import DataError
from pixbox.files import open_file
from pixbox.sample import Record

SMALL = 32
"""Side of the small grey pictures by which pictures are compared."""
MIRRORED = 0x5555_5555_5555_5555
"""The bits of a look that change when the picture is mirrored left to right: those of odd horizontal frequency."""

_PORTION = 256
# In grey levels of the small picture: less is sky, fog or a blank sheet, and the signs of its frequencies are noise.
_FLAT_STD = 2.0
# Below this side every pixel is counted; from it on, blocks of 2 x 2.
_LEAST_HALVED = 256
_LEAST_SIDE = 32
_MOST_STRETCHED = 10
_MOST_PIXELS = 50_000_000
_TURNED = {
    2: "mirrored left to right",
    3: "turned by 180 degrees",
    4: "mirrored top to bottom",
    5: "mirrored and turned by 90 degrees to the left",
    6: "turned by 90 degrees to the right",
    7: "mirrored and turned by 90 degrees to the right",
    8: "turned by 90 degrees to the left",
}


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What a picture file holds.

    Attributes:
        id: of its Record.
        file: the picture file.
        size_hw: as it is read; None if it cannot be read.
        content: 16 bytes that differ for files that differ (BLAKE2b); empty if there is no such file.
        look: ``look_of`` the picture; None if it cannot be read.
        is_flat: nearly one colour, so that ``look`` says nothing.
        pixels: height times width; 0 if it cannot be read.
        channel_sums: of red, green and blue, each 0 to 1, over the pixels: right to 0.001 a pixel.
        channel_squares: the same of their squares, of pictures of 256 pixels and more a side at half their size: the
            standard deviation that follows is that at half the size, for photographs less than 1 % below the full.
        exif_orientation: 1-8, 1 is upright or unknown.
        findings: what is wrong or odd.
    """

    id: str
    file: Path
    size_hw: tuple[int, int] | None
    content: bytes
    look: int | None
    is_flat: bool
    pixels: int
    channel_sums: tuple[float, float, float]
    channel_squares: tuple[float, float, float]
    exif_orientation: int
    findings: tuple[Finding, ...]


def inspect_pictures(
    records: Sequence[Record], reading: PixelReading = AS_IT_IS, workers: int | None = None
) -> Iterator[PictureFacts]:
    """``inspect_picture`` of each record, in order, in threads: as many as there are cores, at most 16."""
    with ThreadPoolExecutor(workers or min(16, os.cpu_count() or 1)) as pool:
        # In portions, so that neither results nor an interruption wait for a long queue.
        for start in range(0, len(records), _PORTION):
            yield from pool.map(lambda record: inspect_picture(record, reading), records[start : start + _PORTION])


def inspect_picture(record: Record, reading: PixelReading = AS_IT_IS) -> PictureFacts:
    """Read a picture as training does. What is wrong with it is in ``findings``; nothing is raised."""
    pixels, orientation = None, 1
    try:
        header = describe_image(record.image)
        orientation = header.exif_orientation
        pixels = read_image(record.image, reading)
        findings = _oddities(record, header, pixels, reading)
    except DataError as error:
        findings = tuple(
            Finding(fault.code, str(record.image), fault.what, fault.hint, record.id) for fault in error.faults
        )
    content = _content(record.image)
    if pixels is None:
        none = (0.0, 0.0, 0.0)
        return PictureFacts(record.id, record.image, None, content, None, False, 0, none, none, orientation, findings)
    reduced = _halved(pixels) if min(pixels.shape[:2]) >= _LEAST_HALVED else pixels
    count = pixels.shape[0] * pixels.shape[1]
    means, stds = (values.ravel() / 255 for values in cv2.meanStdDev(reduced))
    small = small_grey(reduced)
    return PictureFacts(
        id=record.id,
        file=record.image,
        size_hw=(pixels.shape[0], pixels.shape[1]),
        content=content,
        look=look_of(small),
        is_flat=float(cv2.meanStdDev(small)[1][0, 0]) < _FLAT_STD,
        pixels=count,
        channel_sums=_triple(means * count),
        channel_squares=_triple((means**2 + stds**2) * count),
        exif_orientation=orientation,
        findings=findings,
    )


def small_grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture, (H, W, 3) uint8 RGB, squeezed to (SMALL, SMALL) uint8 grey; each pixel is the mean of its area."""
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    # By halves first: OpenCV takes the mean of 2 x 2 pixels many times faster than that of any other area. Further
    # down an odd row that is left out would shift the picture against a copy of another size.
    while min(grey.shape) >= 8 * SMALL:
        grey = _halved(grey)
    return np.asarray(cv2.resize(grey, (SMALL, SMALL), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def look_of(small: NDArray[np.uint8]) -> int:
    """64 bits that differ little between pictures that look alike: a perceptual hash of a ``small_grey`` picture.

    They are the signs of the 8 x 8 lowest frequencies of its cosine transform, vertical ones by rows; the highest
    bit, the sign of the mean, is always set.
    """
    frequencies = cv2.dct(small.astype(np.float32))[:8, :8]
    return int.from_bytes(np.packbits(frequencies > 0).tobytes(), "big")


def _halved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The means of blocks of 2 x 2 pixels; an odd last row or column is left out."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    even = image[: 2 * height, : 2 * width]
    return np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _content(file: Path) -> bytes:
    try:
        with open_file(file) as stream:
            return blake2b(stream.read(), digest_size=16).digest()
    except OSError:
        return b""  # Reading the picture has told why.


def _oddities(
    record: Record, header: ImageFacts, pixels: NDArray[np.uint8], reading: PixelReading
) -> tuple[Finding, ...]:
    """What may surprise about a picture that can be read."""
    found = [
        _frames(header),
        _deep_numbers(header, pixels) if reading.value_range is None else None,
        _cmyk(header) if reading.bands is None else None,
        _transparency(record.image, header, pixels, reading) if header.has_alpha and reading.bands is None else None,
        _orientation(header),
        _size(header.size_hw),
    ]
    return tuple(
        Finding(oddity.code, str(record.image), oddity.message, oddity.hint, record.id, details=oddity.details)
        for oddity in found
        if oddity is not None
    )


@dataclass(frozen=True, slots=True)
class _Oddity:
    """A finding that does not know its file."""

    code: str
    message: str
    hint: str
    details: dict[str, Any]


def _frames(header: ImageFacts) -> _Oddity | None:
    if header.frames == 1:
        return None
    parts = "pages" if header.format == "TIFF" else "frames"
    message = f"holds {header.frames:,} {parts}, of which the first is used"
    return _Oddity("animated-file", message, f"Save the {parts} as single pictures if the others count, too.",
                   {"frames": header.frames})  # fmt: skip


def _deep_numbers(header: ImageFacts, pixels: NDArray[np.uint8]) -> _Oddity | None:
    """More than 8 bits a number. The upper 8, which are there, bound the largest closely enough."""
    if header.bits <= 8:
        return None
    low = int(pixels.max()) << (header.bits - 8)
    high = low + (1 << (header.bits - 8)) - 1
    message = f"holds numbers of {header.bits} bits, of which the upper 8 are used; the largest is {low:,} to {high:,}"
    hint = "If fine differences of brightness matter, set `data.value_range` to the numbers of black and white."
    if high < 2 ** (header.bits - 2):
        message += f" of {2**header.bits - 1:,}, so the picture is nearly black"
        hint = f"Set `data.value_range: [0, {2 ** high.bit_length() - 1}]`."
    return _Oddity("sixteen-bit", message, hint, {"bits": header.bits, "largest": high})


def _cmyk(header: ImageFacts) -> _Oddity | None:
    if header.kind != "CMYK":
        return None
    return _Oddity("cmyk", "holds CMYK colours; they become RGB without a colour profile, so they may look too bright",
                   "If colours matter, save it as RGB in a program that applies its profile.", {})  # fmt: skip


def _transparency(file: Path, header: ImageFacts, pixels: NDArray[np.uint8], reading: PixelReading) -> _Oddity | None:
    """Pixels that being laid over white has changed, found by reading the colours that lie below."""
    below = read_image(file, replace(reading, bands=(1, 2, 3) if header.bands >= 3 else (1, 1, 1)))
    # A level or two comes from rounding.
    count = int(np.count_nonzero(cv2.absdiff(pixels, below).max(axis=2) > 2))
    if count == 0:
        return None
    share = count / (pixels.shape[0] * pixels.shape[1])
    message = f"is see-through: {count:,} pixels ({share:.1%}) are changed by being laid over white"
    hint = "Save it without transparency, over the background that new pictures will have."
    if header.format == "TIFF":
        hint += " If the last band is no transparency (near infrared), name the others: `data.bands: [1, 2, 3]`."
    return _Oddity("alpha", message, hint, {"count": count})


def _orientation(header: ImageFacts) -> _Oddity | None:
    if header.exif_orientation == 1:
        return None
    turned = _TURNED[header.exif_orientation]
    message = f"has an orientation mark ({header.exif_orientation}): it is {turned} as it is read"
    hint = "See that its mask or boxes were drawn on the turned picture, or save it upright and without the mark."
    return _Oddity("exif-rotated", message, hint, {"orientation": header.exif_orientation})


def _size(size_hw: tuple[int, int]) -> _Oddity | None:
    short, long = sorted(size_hw)
    is_huge = short * long > _MOST_PIXELS
    if short >= _LEAST_SIDE and long <= _MOST_STRETCHED * short and not is_huge:
        return None
    if is_huge:
        what = f", {short * long / 1e6:.0f} megapixels"
        hint = f"It takes {3 * short * long / 2**30:.1f} GiB of memory a time; cut it into tiles."
    elif short < _LEAST_SIDE:
        what, hint = f": a side below {_LEAST_SIDE}", "Leave it out (`data.exclude`) if it is an icon or a thumbnail."
    else:
        what = f": {long / short:.0f} times as long as wide"
        hint = "Cut it into pieces, or leave it out (`data.exclude`), unless all pictures are such strips."
    return _Oddity("odd-size", f"is {size_text(size_hw)} pixels{what}", hint, {"size_hw": list(size_hw)})
