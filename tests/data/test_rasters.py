"""Parts of pictures, against the same parts of what ``read_image`` decodes whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image

from pixbox.data.images import AS_IT_IS, PixelReading, read_image
from pixbox.data.rasters import Raster, open_raster, parts_needed
from pixbox.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
SIZE_HW = (150, 211)
PARTS = [(0, 0, 150, 211), (0, 0, 1, 1), (149, 210, 1, 1), (17, 30, 64, 100), (60, 0, 90, 211), (16, 128, 16, 16)]
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}


def numbers(dtype: str, bands: int) -> NDArray[Any]:
    """(H, W, bands) random numbers: over the whole range of integers, about 0 for floats."""
    random = np.random.default_rng(bands)
    if np.dtype(dtype).kind == "f":
        return random.normal(size=(*SIZE_HW, bands)).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, (*SIZE_HW, bands), dtype=dtype, endpoint=True)


def write(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    planes = np.moveaxis(pixels, 2, 0)
    with rasterio.open(path, "w", driver="GTiff", height=planes.shape[1], width=planes.shape[2], count=len(planes),
                       dtype=planes.dtype.name, **options) as file:  # fmt: skip
        file.write(planes)
    return path


def assert_parts_equal_whole(path: Path, reading: PixelReading = AS_IT_IS, *, decoded_whole: bool = False) -> None:
    whole = read_image(path, reading)
    with open_raster(path, reading) as raster:
        assert raster.size_hw == whole.shape[:2]
        assert bool(raster.obstacle) == decoded_whole, raster.obstacle
        for top, left, height, width in PARTS:
            part = raster.read(top, left, height, width)
            assert part.dtype == np.uint8
            np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])


@pytest.mark.parametrize("layout", [TILED, {"compress": "lzw"}, {"interleave": "band"}, {}], ids=str)
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_grey_and_rgb_of_8_and_16_bits(tmp_path: Path, dtype: str, bands: int, layout: dict[str, Any]) -> None:
    photometric = "RGB" if bands == 3 else "MINISBLACK"
    assert_parts_equal_whole(write(tmp_path / "x.tif", numbers(dtype, bands), photometric=photometric, **layout))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32", "float64"])
def test_chosen_bands_and_ranges_with_no_data(tmp_path: Path, dtype: str) -> None:
    pixels = numbers(dtype, 5)
    low, high = (float(edge) for edge in np.quantile(pixels, [0.1, 0.8]))
    path = write(tmp_path / "x.tif", pixels, nodata=float(pixels[20, 40, 3]), **TILED)
    assert_parts_equal_whole(path, PixelReading((4, 1, 2), (low, high)))


@pytest.mark.parametrize("bands", [2, 4])
def test_transparency_lies_over_white(tmp_path: Path, bands: int) -> None:
    photometric = "RGB" if bands == 4 else "MINISBLACK"
    path = write(tmp_path / "x.tif", numbers("uint8", bands), photometric=photometric, alpha="YES", **TILED)
    assert_parts_equal_whole(path)


def test_colours_multiplied_with_alpha_differ_by_a_level_at_most_and_say_so(tmp_path: Path) -> None:
    pixels = numbers("uint8", 4)
    pixels[:, :, :-1] = np.minimum(pixels[:, :, :-1], pixels[:, :, -1:])
    path = write(tmp_path / "x.tif", pixels, photometric="RGB", alpha="PREMULTIPLIED", **TILED)
    with open_raster(path) as raster:
        assert not raster.is_exact
        assert np.abs(raster.read(0, 0, *SIZE_HW).astype(int) - read_image(path)).max() == 1


def test_palettes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, SIZE_HW, dtype=np.uint8))
    image.putpalette(random.integers(0, 256, 768, dtype=np.uint8).tobytes())
    image.save(tmp_path / "x.tif", compression="tiff_deflate")
    assert_parts_equal_whole(tmp_path / "x.tif")
    assert_parts_equal_whole(tmp_path / "x.tif", PixelReading((3, 3, 1), (20, 200)))


def test_white_is_zero_and_few_bits(tmp_path: Path) -> None:
    grey = numbers("uint8", 1)
    assert_parts_equal_whole(write(tmp_path / "turned.tif", grey, photometric="MINISWHITE", **TILED))
    for bits in (1, 2, 4):
        path = write(tmp_path / f"{bits}.tif", grey >> (8 - bits), NBITS=bits, photometric="MINISBLACK")
        assert_parts_equal_whole(path)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_plain_png(tmp_path: Path, mode: str) -> None:
    pixels = numbers("uint8", len(mode))
    Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels, mode).save(tmp_path / "x.png")
    assert_parts_equal_whole(tmp_path / "x.png")


@pytest.mark.parametrize("bands", [1, 3])
def test_deep_png(tmp_path: Path, bands: int) -> None:
    path = tmp_path / "x.png"
    with rasterio.open(path, "w", driver="PNG", height=SIZE_HW[0], width=SIZE_HW[1], count=bands,
                       dtype="uint16") as file:  # fmt: skip
        file.write(np.moveaxis(numbers("uint16", bands), 2, 0))
    assert_parts_equal_whole(path)
    assert_parts_equal_whole(path, PixelReading(value_range=(1000, 40000)))


def test_kinds_that_are_decoded_whole(tmp_path: Path) -> None:
    image = Image.fromarray(numbers("uint8", 3))
    turned = Image.Exif()
    turned[0x0112] = 6
    image.save(tmp_path / "turned.tif", exif=turned)
    image.convert("CMYK").save(tmp_path / "cmyk.tif")
    image.save(tmp_path / "turned.jpg", exif=turned)
    image.save(tmp_path / "progressive.jpg", progressive=True)
    image.quantize(16).save(tmp_path / "palette.png")
    image.save(tmp_path / "x.bmp")
    for path in tmp_path.iterdir():
        whole = read_image(path)
        with open_raster(path) as raster:
            assert raster.obstacle
            assert "pixbox[geo]" in parts_needed(raster)
            assert raster.size_hw == whole.shape[:2]
            np.testing.assert_array_equal(raster.read(3, 4, 100, 110), whole[3:103, 4:114])


def test_without_rasterio_pictures_are_decoded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(numbers("uint8", 3)).save(path)
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    assert_parts_equal_whole(path, decoded_whole=True)


@pytest.mark.parametrize("kind", ["jpg", "tif"])
def test_jpeg_says_that_its_parts_are_not_exact(tmp_path: Path, kind: str) -> None:
    rows, columns = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    image = np.stack([127 + 90 * np.sin(rows / 40), 127 + 90 * np.cos(columns / 50), rows + 20], axis=2).astype(
        np.uint8
    )
    path = tmp_path / f"x.{kind}"
    if kind == "jpg":
        Image.fromarray(image).save(path, quality=90)
    else:
        write(path, image, photometric="YCBCR", **{**TILED, "compress": "jpeg"})
    with open_raster(path) as raster:
        assert not raster.is_exact
        assert not raster.obstacle
        part = raster.read(10, 20, 100, 150)
        near = np.abs(part.astype(int) - read_image(path)[10:110, 20:170])
        assert near.max() <= 8
        raster.hold()
        np.testing.assert_array_equal(raster.read(10, 20, 100, 150), read_image(path)[10:110, 20:170])


def test_the_place_on_the_map(tmp_path: Path) -> None:
    place = rasterio.Affine(0.5, 0, 400000, 0, -0.25, 5600000)
    path = write(tmp_path / "utm.tif", numbers("uint8", 1), crs="EPSG:32633", transform=place)
    with open_raster(path) as raster:
        assert raster.georeference is not None
        assert raster.georeference.crs == "EPSG:32633"
        assert raster.georeference.square_metres == 0.125
        assert raster.georeference.to_map(np.array([2.0, 4.0])).tolist() == [400001.0, 5599999.0]
    degrees = write(tmp_path / "degrees.tif", numbers("uint8", 1), crs="EPSG:4326", transform=place)
    with open_raster(degrees) as raster:
        assert raster.georeference is not None
        assert raster.georeference.metres_per_unit is None
    with open_raster(write(tmp_path / "nowhere.tif", numbers("uint8", 1))) as raster:
        assert raster.georeference is None


def test_files_beside_a_picture_change_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", numbers("uint8", 1), **TILED)
    Path(f"{path}.aux.xml").write_text(
        "<PAMDataset><SRS>EPSG:32633</SRS><GeoTransform>1, 2, 0, 3, 0, 2</GeoTransform></PAMDataset>"
    )
    with open_raster(path) as raster:
        assert raster.georeference is None


def test_what_is_decoded_at_once_is_known(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", numbers("uint8", 3), **TILED)
    with open_raster(path) as raster:
        assert raster.block_hw == (64, 64)
        assert raster.whole_bytes == path.stat().st_size + 150 * 211 * 6


def test_a_picture_beyond_pillows_limit_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x.tif", "x.png"):
        pixels = numbers("uint8", 3)
        if name == "x.tif":
            write(tmp_path / name, pixels, photometric="RGB", **TILED)
        else:
            Image.fromarray(pixels).save(tmp_path / name)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with open_raster(tmp_path / name) as raster:
            np.testing.assert_array_equal(raster.read(5, 6, 70, 80), pixels[5:75, 6:86])
        monkeypatch.undo()


@pytest.mark.parametrize("name", ["x.tif", "x.png", "x.jpg"])
def test_a_file_that_ends_early_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "x.tif":
        write(path, numbers("uint8", 3), photometric="RGB", **TILED)
    else:
        Image.fromarray(numbers("uint8", 3)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def read_all(raster: Raster) -> None:
        for top in range(0, 150, 50):
            raster.read(top, 0, 50, 211)

    with pytest.raises(DataError, match=rf"{name}: .*(damaged|incomplete)"), open_raster(path) as raster:
        read_all(raster)


@pytest.mark.parametrize("reading", [AS_IT_IS, PixelReading((1, 2, 9))], ids=["no bands", "a band too many"])
def test_bands_without_meaning_are_refused_as_ever(tmp_path: Path, reading: PixelReading) -> None:
    path = write(tmp_path / "x.tif", numbers("uint8", 5), **TILED)
    with pytest.raises(DataError) as whole:
        read_image(path, reading)
    with pytest.raises(DataError) as parts, open_raster(path, reading):
        pass
    assert str(parts.value) == str(whole.value)


def test_what_is_missing_or_no_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"), open_raster(tmp_path / "x.tif"):
        pass
    (tmp_path / "x.tif").write_text("no picture")
    with pytest.raises(DataError, match="is text, not a picture"), open_raster(tmp_path / "x.tif"):
        pass
