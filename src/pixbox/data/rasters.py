"""Pictures of any size, read a part at a time: the pixels that ``read_image`` gives, without decoding all of them.

Rasterio (the extra ``geo``) decodes the parts. What it cannot read in parts, or would read otherwise than
``read_image``, is decoded whole and then held.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile

from pixbox.data.headers import broken, read_tiff, tiff_layout, unreadable
from pixbox.data.images import (
    AS_IT_IS,
    PixelReading,
    check_reading,
    develop_numbers,
    image_size_hw,
    natural_bands,
    read_image,
    spread_numbers,
)
from pixbox.data.tiff import TIFF_STARTS, WAY_OUT, TiffHeader
from pixbox.errors import DataError
from pixbox.files import open_file
from pixbox.sample import Georeference

BLOCK_CACHE = 16 << 20
"""Bytes of decoded blocks that GDAL keeps; by itself it would take a twentieth of the machine's memory."""
_PIECE = 1 << 18
"""Pixels that become colours at once."""
_LARGE_BLOCK = 1 << 22
"""Pixels; tiles of TIFFs have about 2 ** 16."""
_JPEG = 7
"""The number of JPEG among a TIFF's compressions."""
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_BANDS = {0: (1,), 2: (1, 2, 3), 4: (1, 2), 6: (1, 2, 3, 4)}
"""Of the colour types of PNG, but palettes."""
_OPTIONS = {
    "GDAL_CACHEMAX": BLOCK_CACHE,
    # Beside a file GDAL looks for others that change what it reads.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # A JPEG that ends too early would be filled up with grey.
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
}
_NEEDED = 'A tiled TIFF and the extra `geo` (pip install "pixbox[geo]") let parts of it be read.'


@dataclass(frozen=True, slots=True)
class _Pixels:
    """How a file's numbers lie in it, and what makes colours of them.

    Attributes:
        bands: that are read, counted from 1.
        bits: of a number.
        tiff: None for other formats.
        obstacle: why parts cannot be read; empty if they can.
        is_exact: parts are the pixels of ``read_image``; else they differ by some levels where colours meet.
    """

    bands: tuple[int, ...] = ()
    bits: int = 8
    tiff: TiffHeader | None = None
    obstacle: str = ""
    is_exact: bool = True


@dataclass(slots=True, eq=False)
class Raster:
    """An open picture, made by ``open_raster``.

    Attributes:
        path: the file.
        size_hw: as ``read_image`` gives it.
        is_tiff: it is a TIFF.
        is_exact: parts have the very pixels of ``read_image``. JPEG's have not, also inside of a TIFF: the decoders
            fill in the colours between their samples each in its own way; nor have colours multiplied with alpha.
        obstacle: why parts of the file cannot be read, so that ``read`` decodes it whole; empty if they can.
        block_hw: height and width of what is decoded together.
        reading_bytes: memory that reading parts takes, beside their pixels.
        whole_bytes: memory that decoding it whole takes.
        georeference: where it lies on the earth, if the file itself says so and the picture is not turned.
    """

    path: Path
    size_hw: tuple[int, int]
    is_tiff: bool
    is_exact: bool
    obstacle: str
    block_hw: tuple[int, int]
    reading_bytes: int
    whole_bytes: int
    georeference: Georeference | None
    _reading: PixelReading
    _layout: _Pixels
    _dataset: Any = None
    _held: NDArray[np.uint8] | None = field(default=None, repr=False)

    def hold(self) -> None:
        """Decode the whole picture now, by ``read_image``, and take parts from it.

        Raises:
            DataError: as from ``read_image``.
        """
        if self._held is None:
            self._held = read_image(self.path, self._reading)

    def read(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB, a part that lies within the picture.

        Raises:
            DataError: the file is incomplete or damaged.
        """
        if self._held is None and self.obstacle:
            self.hold()
        if self._held is not None:
            return self._held[top : top + height, left : left + width]
        pixels = np.empty((height, width, 3), dtype=np.uint8)
        rows = max(1, _PIECE // width)
        for first in range(0, height, rows):
            piece = pixels[first : first + rows]
            piece[:] = self._decode(top + first, left, len(piece), width)
        return pixels

    def _decode(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        layout = self._layout
        window = ((top, top + height), (left, left + width))
        try:
            numbers = np.moveaxis(self._dataset.read(list(layout.bands), window=window), 0, 2)
        except MemoryError:
            raise
        except Exception as error:
            # GDAL's errors have no common ancestor.
            what = f"is damaged: its pixels at row {top}, column {left} and beyond cannot be decoded"
            raise DataError(what, where=str(self.path), hint=WAY_OUT, code="damaged-file") from error
        if layout.tiff is not None and layout.tiff.photometric == 3:
            numbers = np.take(_color_table(self._dataset), numbers[:, :, 0], axis=0)
            numbers = numbers[:, :, [band - 1 for band in self._reading.bands or (1, 2, 3)]]
        elif layout.tiff is not None:
            numbers = spread_numbers(numbers, layout.tiff)
        return develop_numbers(numbers, self._reading, layout.tiff, layout.bits)


@contextmanager
def open_raster(path: Path, reading: PixelReading = AS_IT_IS) -> Iterator[Raster]:
    """Open a picture to read parts of it, in the thread that opens it; its pixels stay on disk.

    Raises:
        DataError: as from ``read_image``, where the header tells it.
    """
    with ExitStack() as stack:
        try:
            with open_file(path) as file:
                layout = _inspect(path, file, reading)
        except OSError as error:
            raise unreadable(path, error) from None
        dataset = None if layout.tiff is None and layout.obstacle else _open_dataset(stack, path, layout)
        if dataset is None and not layout.obstacle:
            layout = _Pixels(tiff=layout.tiff, obstacle="rasterio is not installed")
        yield _raster(path, reading, layout, dataset)


def parts_needed(raster: Raster) -> str:
    """What to do about a picture that cannot be read in parts, or only in large ones; empty where it can."""
    height, width = raster.block_hw
    if raster.obstacle:
        return f"It cannot be read in parts: {raster.obstacle}.\n{_NEEDED}"
    if height * width <= _LARGE_BLOCK:
        return ""
    return f"Its parts are large, {width} x {height} pixels that are packed together: save it as a tiled TIFF."


def _raster(path: Path, reading: PixelReading, layout: _Pixels, dataset: Any) -> Raster:
    tiff = layout.tiff
    if tiff is not None:
        size_hw, number_bytes = tiff.size_hw, tiff.bands * -(-tiff.bits // 8)
    elif dataset is not None:
        size_hw, number_bytes = dataset.shape, dataset.count * -(-layout.bits // 8)
    else:
        size_hw, number_bytes = image_size_hw(path, reading), 4
    block_hw = size_hw if dataset is None else dataset.block_shapes[0]
    # Floats are stretched in doubles.
    whole_pixel = number_bytes + 3 + (8 if reading.value_range is not None and number_bytes > 2 else 0)
    return Raster(
        path=path,
        size_hw=size_hw,
        is_tiff=tiff is not None,
        is_exact=layout.is_exact,
        obstacle=layout.obstacle,
        block_hw=block_hw,
        # GDAL decodes a block and copies it into its cache; a piece is held as numbers, as doubles and as colours.
        reading_bytes=BLOCK_CACHE + 2 * block_hw[0] * block_hw[1] * number_bytes + _PIECE * (number_bytes + 27),
        whole_bytes=path.stat().st_size + size_hw[0] * size_hw[1] * whole_pixel,
        georeference=_georeference(dataset) if tiff is not None and tiff.orientation == 1 else None,
        _reading=reading,
        _layout=layout,
        _dataset=dataset,
    )


def _inspect(path: Path, file: IO[bytes], reading: PixelReading) -> _Pixels:
    start = file.read(8)
    file.seek(0)
    if start[:4] in TIFF_STARTS:
        return _inspect_tiff(path, file, reading)
    if start == _PNG_START:
        return _inspect_png(file, reading)
    if start[:2] == b"\xff\xd8":
        return _inspect_jpeg(path, file, reading)
    return _Pixels(obstacle="it is no TIFF, PNG or JPEG")


def _inspect_tiff(path: Path, file: IO[bytes], reading: PixelReading) -> _Pixels:
    tiff = read_tiff(path, file)
    check_reading(path, tiff_layout(tiff), reading)
    if tiff.compression != 1 and tiff.pixels_end > file.seek(0, 2):
        raise broken(path, "the TIFF file is incomplete or damaged: it ends too early", is_cut=True)
    is_rgb_jpeg = tiff.photometric == 6 and tiff.compression == _JPEG and tiff.bands == 3
    is_palette = tiff.photometric == 3 and tiff.bands == 1 and tiff.bits <= 8
    if tiff.orientation != 1:
        return _Pixels(tiff=tiff, obstacle="its orientation tag turns it")
    if tiff.number == "other" or not (tiff.photometric in (0, 1, 2) or is_rgb_jpeg or is_palette):
        return _Pixels(tiff=tiff, obstacle=f"it is {tiff}, colour space {tiff.photometric}")
    bands = (1,) if is_palette else reading.bands or natural_bands(tiff)
    # Pillow divides colours by their alpha and rounds.
    is_divided = reading == AS_IT_IS and tiff.extra[-1:] == (1,)
    is_exact = tiff.compression != _JPEG and not is_divided
    return _Pixels(bands, 8 if is_palette else max(8, tiff.bits), tiff, is_exact=is_exact)


def _inspect_png(file: IO[bytes], reading: PixelReading) -> _Pixels:
    """What the chunks say that need no decoding; interlaced, few bits, transparent colours and the like go whole."""
    head = file.read(33)
    if len(head) < 33:
        return _Pixels(obstacle="its header is damaged")
    bits, kind, is_interlaced = head[24], head[25], head[28] != 0
    others = _png_chunks(file)
    if bits < 8 or kind not in _PNG_BANDS or is_interlaced or others & {b"tRNS", b"acTL", b"eXIf", b"zTXt", b"iTXt"}:
        return _Pixels(obstacle="only plain PNGs can: grey or RGB of 8 or 16 bits, not interlaced, no metadata")
    if reading.bands is not None and max(reading.bands) > len(_PNG_BANDS[kind]):
        return _Pixels(obstacle="it has too few bands")
    return _Pixels(reading.bands or _PNG_BANDS[kind], bits)


def _png_chunks(file: IO[bytes]) -> set[bytes]:
    """The kinds of chunks behind the header; the file's position is behind the header."""
    kinds = set[bytes]()
    while len(head := file.read(8)) == 8:
        kinds.add(head[4:])
        file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return kinds


def _inspect_jpeg(path: Path, file: IO[bytes], reading: PixelReading) -> _Pixels:
    try:
        # Not `Image.open`, which refuses what is too large to be decoded whole.
        image = JpegImageFile(file)
        is_turned = image.getexif().get(0x0112, 1) != 1
    except Exception as error:
        # Pillow's reader raises whatever a damaged header makes it stumble over.
        raise broken(path, f"its header is damaged ({error})", is_cut=False) from error
    bands = {"L": (1,), "RGB": (1, 2, 3)}.get(image.mode, ())
    if is_turned or not bands or image.info.get("progressive") or max(reading.bands or (1,)) > len(bands):
        return _Pixels(obstacle="only plain JPEGs can: grey or RGB, upright, not progressive")
    return _Pixels(reading.bands or bands, is_exact=False)


def _open_dataset(stack: ExitStack, path: Path, layout: _Pixels) -> Any:
    """By rasterio, closed with the stack; None if that is not installed, or knows only parts that cannot be read."""
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError
    except ImportError:
        return None
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    stack.enter_context(rasterio.Env(**_OPTIONS))
    try:
        return stack.enter_context(rasterio.open(path, driver="GTiff" if layout.tiff is not None else None))
    except RasterioError as error:
        if layout.obstacle:
            return None
        raise broken(path, f"is damaged or of an unknown kind ({error})", is_cut=False) from error


def _georeference(dataset: Any) -> Georeference | None:
    if dataset is None or dataset.crs is None or dataset.transform.is_identity or not dataset.transform.determinant:
        return None
    crs = dataset.crs
    number = crs.to_epsg(confidence_threshold=100)
    metres = float(crs.linear_units_factor[1]) if crs.is_projected else None
    a, b, c, d, e, f = dataset.transform[:6]
    return Georeference(crs.to_wkt() if number is None else f"EPSG:{number}", (a, b, c, d, e, f), metres)


def _color_table(dataset: Any) -> NDArray[np.uint8]:
    """(256, 3) uint8: the colours of a palette."""
    table = np.zeros((256, 3), dtype=np.uint8)
    for index, color in dataset.colormap(1).items():
        table[index] = color[:3]
    return table
