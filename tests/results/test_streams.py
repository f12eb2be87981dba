"""Pictures written a part at a time, read back by Pillow and rasterio."""

from __future__ import annotations

import io
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image

from pixbox.results.streams import TILE, png_stream, tiff_bytes, tiff_stream
from pixbox.sample import Georeference

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
PALETTE = np.random.default_rng(1).integers(0, 256, 768).tolist()
SIZES = [(1, 1), (1, 5000), (700, 1), (256, 256), (257, 513), (600, 1000)]


def indices(size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, size_hw, dtype=np.uint8)


def parts(size_hw: tuple[int, int], columns: int) -> Iterator[tuple[int, int, slice, slice]]:
    """Bands of columns from left to right, each from top to bottom in parts of uneven height."""
    random = np.random.default_rng(2)
    for left in range(0, size_hw[1], columns):
        top = 0
        while top < size_hw[0]:
            height = int(random.integers(1, 200))
            yield top, left, slice(top, top + height), slice(left, left + columns)
            top = min(size_hw[0], top + height)


@pytest.mark.parametrize("columns", [TILE, 2 * TILE, 8192])
@pytest.mark.parametrize("size_hw", SIZES, ids=str)
def test_pillow_reads_the_png_that_it_would_have_written(
    tmp_path: Path, size_hw: tuple[int, int], columns: int
) -> None:
    pixels = indices(size_hw)
    with png_stream(tmp_path / "new" / "x.png", size_hw, PALETTE) as stream:
        for top, left, rows, some in parts(size_hw, columns):
            stream.write(top, left, pixels[rows, some])
    expected = Image.fromarray(pixels)
    expected.putpalette(PALETTE)
    buffer = io.BytesIO()
    expected.save(buffer, "PNG")
    with Image.open(tmp_path / "new" / "x.png") as ours, Image.open(buffer) as pillows:
        assert ours.mode == pillows.mode == "P"
        np.testing.assert_array_equal(np.asarray(ours), pixels)
        assert ours.getpalette() == pillows.getpalette()


@pytest.mark.parametrize("columns", [TILE, 2 * TILE, 8192])
@pytest.mark.parametrize("size_hw", SIZES, ids=str)
def test_rasterio_reads_the_tiff(tmp_path: Path, size_hw: tuple[int, int], columns: int) -> None:
    pixels = indices(size_hw)
    colors = np.stack([pixels, 255 - pixels, pixels // 2], axis=2)
    with (
        tiff_stream(tmp_path / "x.tif", size_hw, palette=PALETTE) as mask,
        tiff_stream(tmp_path / "rgb.tif", size_hw, palette=None) as rgb,
    ):
        for top, left, rows, some in parts(size_hw, columns):
            mask.write(top, left, pixels[rows, some])
            rgb.write(top, left, colors[rows, some])
    with rasterio.open(tmp_path / "x.tif") as file:
        np.testing.assert_array_equal(file.read(1), pixels)
        assert [file.colormap(1)[index] for index in (0, 255)] == [(*PALETTE[:3], 255), (*PALETTE[-3:], 255)]
    with rasterio.open(tmp_path / "rgb.tif") as file:
        np.testing.assert_array_equal(np.moveaxis(file.read(), 0, 2), colors)


def test_each_tile_is_packed_once(tmp_path: Path) -> None:
    """Random numbers cannot be packed: a tile written twice would lie in the file twice."""
    size_hw = (1000, 600)
    pixels = indices(size_hw)
    with tiff_stream(tmp_path / "x.tif", size_hw, palette=PALETTE) as stream:
        for top, left, rows, some in parts(size_hw, TILE):
            stream.write(top, left, pixels[rows, some])
    tiles = 4 * 3 * TILE * TILE
    assert (tmp_path / "x.tif").stat().st_size < tiles + 20_000


def test_in_memory_it_is_the_same_file(tmp_path: Path) -> None:
    pixels = indices((300, 500))
    place = Georeference("EPSG:32633", (0.5, 0, 400000, 0, -0.5, 5700000), 1.0)
    with tiff_stream(tmp_path / "x.tif", (300, 500), palette=PALETTE, georeference=place) as stream:
        stream.write(0, 0, pixels)
    (tmp_path / "y.tif").write_bytes(tiff_bytes(pixels, PALETTE, place))
    with rasterio.open(tmp_path / "x.tif") as x, rasterio.open(tmp_path / "y.tif") as y:
        assert x.profile == y.profile
        assert x.crs == rasterio.CRS.from_epsg(32633)
        np.testing.assert_array_equal(x.read(), y.read())


def test_a_system_without_a_number_keeps_its_definition(tmp_path: Path) -> None:
    crs = rasterio.CRS.from_proj4("+proj=tmerc +lat_0=10 +lon_0=20 +k=0.9 +x_0=5 +y_0=6 +datum=WGS84 +units=m")
    place = Georeference(crs.to_wkt(), (1, 0, 0, 0, -1, 0), 1.0)
    (tmp_path / "x.tif").write_bytes(tiff_bytes(indices((20, 30)), PALETTE, place))
    with rasterio.open(tmp_path / "x.tif") as file:
        assert file.crs == crs


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_what_is_interrupted_leaves_the_former_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    path.write_bytes(b"former")
    opened = png_stream(path, (500, 500), PALETTE) if kind == "png" else tiff_stream(path, (500, 500), palette=PALETTE)

    def fail() -> None:
        with opened as stream:
            stream.write(0, 0, indices((300, 500)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("missing", [1, 1000, 100_000])
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, kind: str, missing: int) -> None:
    size_hw = (512, 1024)
    path = tmp_path / f"x.{kind}"

    def write() -> None:
        opened = png_stream(path, size_hw, PALETTE) if kind == "png" else tiff_stream(path, size_hw, palette=PALETTE)
        with opened as stream:
            stream.write(0, 0, indices(size_hw))

    write()
    size = path.stat().st_size
    path.unlink()
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    signals = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - missing, former[1]))
    try:
        with pytest.raises(OSError):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
        signal.signal(signal.SIGXFSZ, signals)
    assert list(tmp_path.iterdir()) == []
