"""Pictures of any size written a part at a time: tiled TIFFs, with their place on the earth, and palette PNGs."""

from __future__ import annotations

import errno
import os
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixbox.files import partial_file
from pixbox.sample import Georeference

TILE = 256
"""Side of a TIFF's tiles, pixels."""


class PictureStream(Protocol):
    """Takes the parts of a picture."""

    def write(self, top: int, left: int, pixels: NDArray[np.uint8]) -> None:
        """The next part: (h, w) or (h, w, 3) uint8. Parts of equal columns come from top to bottom, one below the
        other, then those of the next columns; ``left`` is a multiple of ``TILE``."""


def has_rasterio() -> bool:
    """Whether TIFFs can be written: the extra ``geo`` is installed."""
    return find_spec("rasterio") is not None


@contextmanager
def tiff_stream(
    path: Path, size_hw: tuple[int, int], *, palette: Sequence[int] | None, georeference: Georeference | None = None
) -> Iterator[PictureStream]:
    """A tiled, deflated TIFF that is there when the block ends without an error; else nothing is.

    With ``palette`` (768 numbers, as of ``LabelMap``) one band of indices into it, else RGB. A BigTIFF where it may
    grow beyond 4 GB. Needs rasterio.

    Raises:
        OSError: the file could not be written whole.
    """
    from rasterio.errors import RasterioError

    with partial_file(path) as partial:
        try:
            with _create_tiff(partial, size_hw, palette, georeference) as file:
                stream = _TiffStream(file, size_hw)
                yield stream
            stream.check_complete()
            _check_on_disk(partial)
        except RasterioError as error:
            raise OSError(errno.EIO, str(error), str(path)) from error


def _check_on_disk(path: Path) -> None:
    """A disk that is full only when a dataset is closed is no error to GDAL.

    Raises:
        OSError: a tile is missing or lies beyond the end of the file.
    """
    import rasterio

    size = path.stat().st_size
    with rasterio.open(path) as file:
        for row, column in ((row, column) for (row, column), _ in file.block_windows(1)):
            place, length = (
                int(file.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=1) or 0)
                for what in ("OFFSET", "SIZE")
            )
            if not place or place + length > size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def tiff_bytes(pixels: NDArray[np.uint8], palette: Sequence[int], georeference: Georeference | None) -> bytes:
    """The bytes of the file that ``tiff_stream`` would write of (H, W) uint8 indices."""
    import rasterio

    size_hw = pixels.shape[0], pixels.shape[1]
    with rasterio.MemoryFile() as memory:
        with _create_tiff(memory, size_hw, palette, georeference) as file:
            _TiffStream(file, size_hw).write(0, 0, pixels)
        return bytes(memory.read())


def _create_tiff(
    target: Any, size_hw: tuple[int, int], palette: Sequence[int] | None, georeference: Georeference | None
) -> Any:
    """A rasterio dataset in a file or in memory."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    settings: dict[str, Any] = {
        "driver": "GTiff", "height": size_hw[0], "width": size_hw[1], "count": 3 if palette is None else 1,
        "dtype": "uint8", "photometric": "RGB" if palette is None else "palette", "tiled": True, "blockxsize": TILE,
        "blockysize": TILE, "compress": "deflate", "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    if georeference is not None:
        settings["crs"] = rasterio.CRS.from_string(georeference.crs)
        settings["transform"] = rasterio.Affine(*georeference.transform)
    in_memory = isinstance(target, rasterio.MemoryFile)
    file = target.open(**settings) if in_memory else rasterio.open(target, "w", **settings)
    if palette is not None:
        # Before the first pixel: later, the header would have to be written a second time.
        colors = np.array(palette, dtype=np.uint8).reshape(256, 3)
        file.write_colormap(1, {index: (*color, 255) for index, color in enumerate(colors.tolist())})
    return file


class _TiffStream:
    """Holds rows back until they fill tiles, so that each tile is compressed once."""

    def __init__(self, file: Any, size_hw: tuple[int, int]) -> None:
        self._file = file
        self._size_hw = size_hw
        self._held: NDArray[np.uint8] | None = None
        self._pixels = 0

    def write(self, top: int, left: int, pixels: NDArray[np.uint8]) -> None:
        held = pixels if self._held is None else np.concatenate([self._held, pixels])
        first, end = top + len(pixels) - len(held), top + len(pixels)
        full = len(held) if end == self._size_hw[0] else len(held) // TILE * TILE
        if full:
            window = ((first, first + full), (left, left + held.shape[1]))
            planes = held[None, :full] if held.ndim == 2 else np.moveaxis(held[:full], 2, 0)
            self._file.write(planes, window=window)
            self._pixels += full * held.shape[1]
        self._held = held[full:].copy() if full < len(held) else None

    def check_complete(self) -> None:
        assert self._pixels == self._size_hw[0] * self._size_hw[1], "parts are missing"


@contextmanager
def png_stream(path: Path, size_hw: tuple[int, int], palette: Sequence[int]) -> Iterator[PictureStream]:
    """A palette PNG that is there when the block ends without an error; else nothing is.

    ``palette`` is 768 numbers, as of ``LabelMap``. Until then the indices lie in a file without a name beside it, a
    byte for each pixel: PNG wants whole rows, but parts may have fewer columns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent) as spool:
        yield _Spool(spool, size_hw[1])
        with partial_file(path) as partial, partial.open("wb") as file:
            _encode_png(file, spool, size_hw, bytes(palette))


class _Spool:
    def __init__(self, file: IO[bytes], width: int) -> None:
        self._file = file
        self._width = width

    def write(self, top: int, left: int, pixels: NDArray[np.uint8]) -> None:
        if pixels.shape[1] == self._width:
            self._file.seek(top * self._width)
            self._file.write(np.ascontiguousarray(pixels).data)
            return
        for row, values in enumerate(pixels, start=top):
            self._file.seek(row * self._width + left)
            self._file.write(values.tobytes())


def _encode_png(file: IO[bytes], indices: IO[bytes], size_hw: tuple[int, int], palette: bytes) -> None:
    """Write a palette PNG of rows of indices that lie one after another in a file.

    Source: PNG specification (W3C, third edition), sections 5 and 11.
    """
    height, width = size_hw

    def chunk(kind: bytes, body: bytes) -> None:
        file.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))

    file.write(b"\x89PNG\r\n\x1a\n")
    chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
    chunk(b"PLTE", palette)
    packer = zlib.compressobj()
    indices.seek(0)
    for _ in range(height):
        # Each row begins with the number of its filter: 0, as it is.
        if packed := packer.compress(b"\0" + indices.read(width)):
            chunk(b"IDAT", packed)
    chunk(b"IDAT", packer.flush())
    chunk(b"IEND", b"")
