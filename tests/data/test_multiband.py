"""TIFFs of many bands and of deep numbers, written by rasterio (GDAL) or byte by byte, against the arrays they hold."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pixbox.data.images import PixelReading, describe_image, image_size_hw, read_image, read_mask
from pixbox.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

SIZE_HW = (45, 61)
TILED = {"tiled": True, "blockxsize": 16, "blockysize": 16}
LAYOUTS: dict[str, dict[str, Any]] = {
    "interleaved": {"interleave": "pixel"},
    "planar": {"interleave": "band"},
    "tiled": TILED,
    "planar tiles": {**TILED, "interleave": "band"},
    "deflate": {"compress": "deflate", "predictor": 2},
    "planar lzw": {"compress": "lzw", "interleave": "band"},
    "planar deflated tiles": {**TILED, "compress": "deflate", "interleave": "band"},
    "zstd": {"compress": "zstd"},
    "lerc": {"compress": "lerc"},
    "BigTIFF": {"BIGTIFF": "YES"},
    "big endian": {"ENDIANNESS": "BIG"},
    "big endian lzw": {"ENDIANNESS": "BIG", "compress": "lzw"},
}
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def numbers(dtype: str, bands: int, size_hw: tuple[int, int] = SIZE_HW) -> NDArray[Any]:
    """(H, W, bands) random numbers over the whole range of integers, about 0 for floats."""
    random = np.random.default_rng(bands)
    if np.dtype(dtype).kind == "f":
        return random.normal(size=(*size_hw, bands)).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, (*size_hw, bands), dtype=dtype, endpoint=True)


def write(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    """(H, W) or (H, W, C) as a TIFF by GDAL."""
    planes = np.moveaxis(np.atleast_3d(pixels), 2, 0)
    count, height, width = planes.shape
    with rasterio.open(path, "w", driver="GTiff", height=height, width=width, count=count, dtype=planes.dtype.name,
                       **options) as file:  # fmt: skip
        file.write(planes)
    return path


def tiff(pixels: NDArray[Any], tags: Mapping[int, int | tuple[int, ...]], page_kinds: tuple[int, ...] = (0,)) -> bytes:
    """An uncompressed little-endian TIFF of (H, W) or (H, W, C) pixels with these tags beside the necessary ones."""
    height, width = pixels.shape[:2]
    body = pixels.tobytes()
    data = b"II*\0" + struct.pack("<I", 8 + len(body)) + body
    for page, kind in enumerate(page_kinds, 1):
        bits = 8 * pixels.dtype.itemsize
        entries = {254: kind, 256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height,
                   279: len(body), **tags}  # fmt: skip
        directory, beyond = b"", b""
        here = len(data) + 2 + 12 * len(entries) + 4
        for tag, value in sorted(entries.items()):
            values = value if isinstance(value, tuple) else (value,)
            packed = struct.pack(f"<{len(values)}I", *values)
            if len(values) > 1:
                beyond, packed = beyond + packed, struct.pack("<I", here + len(beyond))
            directory += struct.pack("<HHI", tag, 4, len(values)) + packed
        next_page = here + len(beyond) if page < len(page_kinds) else 0
        data += struct.pack("<H", len(entries)) + directory + struct.pack("<I", next_page) + beyond
    return data


def written(folder: Path, data: bytes, name: str = "picture.tif") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def assert_nearest(read: NDArray[np.uint8], values: NDArray[Any], low: float, high: float) -> None:
    """``read`` are the whole numbers nearest to ``values`` on the line from (low, 0) to (high, 255)."""
    exact = np.clip((values.astype(np.longdouble) - low) / (high - low) * 255, 0, 255)
    assert np.abs(read - exact).max() <= 0.5 + 1e-9


def refused(path: Path, *reading: PixelReading) -> str:
    with pytest.raises(DataError) as error:
        read_image(path, *reading)
    assert str(error.value).startswith(f"{path}: ")
    assert {fault.code for fault in error.value.faults} == {"unsupported-pixels"}
    return str(error.value)


# Many bands, deep numbers


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bands_and_range_are_read_from_every_layout_and_type(tmp_path, dtype, layout):
    pixels = numbers(dtype, 6)
    options = LAYOUTS[layout]
    if np.dtype(dtype).kind == "f" and "predictor" in options:
        options = {**options, "predictor": 3}
    path = write(tmp_path / "six.tif", pixels, **options)
    low, high = (float(edge) for edge in np.quantile(pixels, [0.1, 0.8]))
    read = read_image(path, PixelReading(bands=(6, 3, 2), value_range=(low, high)))
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    assert read.flags.writeable
    assert_nearest(read, pixels[:, :, [5, 2, 1]], low, high)
    assert image_size_hw(path) == read.shape[:2] == SIZE_HW


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sixteen_bits_without_a_range_are_divided_by_256(tmp_path, layout):
    pixels = numbers("uint16", 5)
    path = write(tmp_path / "five.tif", pixels, **LAYOUTS[layout])
    assert np.array_equal(read_image(path, PixelReading(bands=(5, 1, 5))), pixels[:, :, [4, 0, 4]] // 256)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("photometric", ["RGB", "MINISBLACK"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_three_bands_are_rgb(tmp_path, dtype, photometric, layout):
    pixels = numbers(dtype, 3)
    path = write(tmp_path / "rgb.tif", pixels, photometric=photometric, **LAYOUTS[layout])
    expected = pixels if dtype == "uint8" else pixels // 256
    assert np.array_equal(read_image(path), expected)
    assert np.array_equal(read_image(path, PixelReading(bands=(3, 2, 1))), expected[:, :, ::-1])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_one_band_is_grey(tmp_path, dtype, layout):
    pixels = numbers(dtype, 1)
    path = write(tmp_path / "grey.tif", pixels, **LAYOUTS[layout])
    expected = np.repeat(pixels if dtype == "uint8" else pixels // 256, 3, axis=2)
    assert np.array_equal(read_image(path), expected)
    assert np.array_equal(read_image(path, PixelReading(bands=(1, 1, 1))), expected)


def test_twelve_bits_span_black_to_white(tmp_path):
    pixels = np.array([[[0, 15, 16, 4095]]], dtype=np.uint16).reshape(1, 4, 1)
    for bands in (1, 3):
        path = write(tmp_path / "twelve.tif", np.repeat(pixels, bands, axis=2), NBITS=12)
        assert read_image(path)[0, :, 1].tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("compress", [None, "lerc"])
def test_grey_that_counts_from_white_is_turned(tmp_path, dtype, compress):
    top = np.iinfo(dtype).max
    path = write(tmp_path / "scan.tif", np.array([[0, top, top // 3]], dtype=dtype), photometric="MINISWHITE",
                 compress=compress)  # fmt: skip
    assert read_image(path)[0, :, 0].tolist() == [255, 0, 170]


@pytest.mark.parametrize(("dtype", "found"), [
    ("float32", "floats"), ("float64", "floats"), ("int32", "32-bit integers with a sign"),
    ("uint32", "32-bit integers"), ("int16", "16-bit integers with a sign"), ("int8", "8-bit integers with a sign"),
])  # fmt: skip
def test_numbers_without_a_brightest_value_need_a_range(tmp_path, dtype, found):
    pixels = numbers(dtype, 1)
    path = write(tmp_path / "deep.tif", pixels)
    message = refused(path)
    assert f"holds {found}, whose brightest value is not known" in message
    assert "data.value_range" in message
    low, high = float(pixels.min()), float(pixels.max())
    assert_nearest(read_image(path, PixelReading(value_range=(low, high))), pixels, low, high)


def test_missing_range_and_missing_bands_are_said_at_once(tmp_path):
    message = refused(write(tmp_path / "eight.tif", numbers("float32", 8)))
    assert "has 8 bands" in message
    assert "holds floats" in message


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "float64"])
def test_range_is_linear_clipped_and_rounded(tmp_path, dtype):
    # 255 / 1020 is a quarter.
    values = np.array([[0, 100, 101, 103, 104, 1117, 1119, 1120, 65000]], dtype=dtype)
    path = write(tmp_path / "a.tif", values)
    read = read_image(path, PixelReading(value_range=(100, 1120)))
    assert read[0, :, 0].tolist() == [0, 0, 0, 1, 1, 254, 255, 255, 255]


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize(
    ("dtype", "nodata"), [("float32", -3.4028234663852886e38), ("int16", -9999), ("uint16", 65535)]
)
def test_no_data_becomes_black(tmp_path, dtype, nodata, bands):
    pixels = np.full((2, 3, bands), 200, dtype=dtype)
    pixels[1, 2, 0] = nodata
    path = write(tmp_path / "holes.tif", pixels, nodata=nodata)
    reading = PixelReading(value_range=(-1e6, 200))
    expected = np.full((2, 3, bands), 255)
    expected[1, 2, 0] = 0
    assert np.array_equal(read_image(path, reading), np.broadcast_to(expected, (2, 3, 3)))


def test_no_data_with_too_few_digits_is_recognised(tmp_path):
    lowest = np.finfo(np.float32).min
    text = b"-3.40282346638529e+038\0\0"
    pixels = np.array([[lowest, 5]], dtype=np.float32)
    data = bytearray(tiff(pixels, {339: 3, 42113: (0,) * 6}))
    entry = data.index(struct.pack("<HHI", 42113, 4, 6))
    struct.pack_into("<HHI", data, entry, 42113, 2, 24)
    offset = struct.unpack_from("<I", data, entry + 8)[0]
    data[offset : offset + 24] = text.ljust(24, b"\0")
    path = written(tmp_path, bytes(data))
    with rasterio.open(path) as file:
        assert file.nodata == pytest.approx(float(lowest))
    assert read_image(path, PixelReading(value_range=(-1e39, 5)))[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("bands", [1, 3])
def test_numbers_that_are_none_become_black_and_infinities_are_clipped(tmp_path, bands):
    pixels = np.array([[np.nan, np.inf, -np.inf, 0.5]], dtype=np.float32)
    path = write(tmp_path / "nan.tif", np.repeat(pixels[:, :, None], bands, axis=2))
    assert read_image(path, PixelReading(value_range=(0, 0.5)))[0, :, 2].tolist() == [0, 255, 0, 255]


def test_half_floats_are_read(tmp_path):
    pixels = numbers("float32", 1)[:, :, 0].astype(np.float16)
    path = written(tmp_path, tiff(pixels, {339: 3}))
    assert_nearest(read_image(path, PixelReading(value_range=(-1, 1)))[:, :, :1], pixels[:, :, None], -1, 1)


def test_complex_numbers_are_refused(tmp_path):
    path = write(tmp_path / "radar.tif", np.ones((4, 5), dtype=np.complex64))
    assert "complex" in refused(path, PixelReading(value_range=(0, 1)))


def test_strips_that_were_left_out_are_zero(tmp_path):
    pixels = np.zeros((64, 64), dtype=np.uint8)
    pixels[:16, :16] = 7
    path = write(tmp_path / "sparse.tif", pixels, SPARSE_OK=True, **TILED)
    assert path.stat().st_size < pixels.size
    assert np.array_equal(read_image(path)[:, :, 0], pixels)
    assert np.array_equal(read_mask(path).pixels, pixels)


# Which bands are colours


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(("bands", "photometric"), [(5, "MINISBLACK"), (8, "MINISBLACK"), (5, "RGB"), (8, "RGB")])
@pytest.mark.parametrize("layout", ["interleaved", "planar lzw"])
def test_bands_without_meaning_are_not_guessed(tmp_path, bands, dtype, photometric, layout):
    path = write(tmp_path / "many.tif", numbers(dtype, bands), photometric=photometric, **LAYOUTS[layout])
    message = refused(path)
    assert f"has {bands} bands" in message
    assert "`data.bands: [3, 2, 1]`" in message
    assert image_size_hw(path) == SIZE_HW


@pytest.mark.parametrize("photometric", ["RGB", "MINISBLACK"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_fourth_band_that_is_not_declared_is_no_alpha(tmp_path, dtype, photometric):
    pixels = numbers(dtype, 4)
    path = write(tmp_path / "nir.tif", pixels, photometric=photometric, ALPHA="NO")
    message = refused(path)
    assert "has 4 bands" in message
    assert "`data.bands: [1, 2, 3]` takes the first three" in message
    read = read_image(path, PixelReading(bands=(4, 1, 2)))
    assert np.array_equal(read, pixels[:, :, [3, 0, 1]] // (1 if dtype == "uint8" else 256))


def test_four_bands_without_a_word_on_the_fourth_are_not_guessed(tmp_path):
    pixels = numbers("uint8", 4)
    data = cv2.imencode(".tif", pixels)[1].tobytes()
    assert Image.open(io.BytesIO(data)).tag_v2.get(338) is None
    path = written(tmp_path, data)
    assert "has 4 bands" in refused(path)
    # OpenCV takes blue, green, red and alpha.
    assert np.array_equal(read_image(path, PixelReading(bands=(3, 2, 1))), pixels[:, :, :3])


@pytest.mark.parametrize("layout", ["interleaved", "planar", "planar lzw", "big endian"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("alpha", ["NON-PREMULTIPLIED", "PREMULTIPLIED"])
def test_declared_alpha_is_laid_over_white(tmp_path, colours, dtype, alpha, layout):
    pixels, top = numbers(dtype, colours + 1), np.iinfo(dtype).max
    opacity = pixels[:, :, colours:] / top
    stored = pixels[:, :, :colours] / top
    if alpha == "PREMULTIPLIED":
        pixels[:, :, :colours] = np.minimum(pixels[:, :, :colours], pixels[:, :, colours:])
        stored = pixels[:, :, :colours] / np.maximum(pixels[:, :, colours:], 1)
    photometric = "RGB" if colours == 3 else "MINISBLACK"
    path = write(tmp_path / "alpha.tif", pixels, ALPHA=alpha, photometric=photometric, **LAYOUTS[layout])
    assert describe_image(path).has_alpha
    over_white = 255 * (1 - opacity) + 255 * stored * opacity
    # Of 16 bits the upper 8 count, of colours and of alpha.
    assert np.abs(read_image(path) - over_white).max() <= (1.6 if dtype == "uint8" else 3)
    # With a range: the colours are scaled, alpha is not.
    scaled = np.clip(stored * top / (top * 0.5), 0, 1)
    over_white = 255 * (1 - opacity) + 255 * scaled * opacity
    assert np.abs(read_image(path, PixelReading(value_range=(0, top * 0.5))) - over_white).max() <= 1.6
    # With bands: as stored.
    read = read_image(path, PixelReading(bands=(colours + 1, 1, 1)))
    assert np.array_equal(read, pixels[:, :, [colours, 0, 0]] // (1 if dtype == "uint8" else 256))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("layout", ["interleaved", "planar lzw"])
def test_grey_with_another_band_is_refused_or_chosen_from(tmp_path, dtype, layout):
    pixels = np.abs(numbers(dtype, 2))
    path = write(tmp_path / "two.tif", pixels, ALPHA="NO", **LAYOUTS[layout])
    message = refused(path, PixelReading(value_range=(0, 9)))
    assert "has 2 bands" in message
    assert "`data.bands: [1, 1, 1]`" in message
    read = read_image(path, PixelReading(bands=(2, 1, 2), value_range=(0, 9)))
    assert_nearest(read, pixels[:, :, [1, 0, 1]], 0, 9)


def test_floats_with_alpha_are_not_guessed(tmp_path):
    path = write(tmp_path / "alpha.tif", numbers("float32", 4), photometric="RGB", ALPHA="YES")
    assert "has 4 bands" in refused(path, PixelReading(value_range=(0, 1)))


@pytest.mark.parametrize(("bands", "found"), [(1, "has 1 band;"), (3, "has 3 bands;"), (6, "has 6 bands;")])
def test_band_beyond_the_last_is_refused(tmp_path, bands, found):
    path = write(tmp_path / "few.tif", numbers("uint8", bands))
    message = refused(path, PixelReading(bands=(1, 9, 1)))
    assert found in message
    assert "names 9" in message


# The same choices for other formats


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK"])
def test_bands_and_range_apply_to_every_format(tmp_path, kind, mode):
    if (kind, mode) in {("PNG", "CMYK"), ("BMP", "CMYK"), ("WEBP", "CMYK"), ("JPEG", "P"), ("JPEG", "1")} or (
        kind == "WEBP" and mode in "P1"
    ):
        pytest.skip("there is no such file")
    smooth = cv2.GaussianBlur(numbers("uint8", 3), (0, 0), 3)
    image = Image.fromarray(smooth).convert(mode)
    path = written(tmp_path, saved(image, kind, **({"lossless": True} if kind == "WEBP" else {})), "picture")
    shown = read_image(path).astype(int)
    last = 1 if mode in "L1" and kind != "WEBP" else 3
    bands = (last, 1, 1)
    tolerance = 2 if kind == "JPEG" else 0
    swapped = shown[:, :, [last - 1, 0, 0]]
    assert np.abs(read_image(path, PixelReading(bands=bands)).astype(int) - swapped).max() <= tolerance
    read = read_image(path, PixelReading(bands=bands, value_range=(50, 101)))
    assert np.abs(read - np.clip((swapped - 50) * 5.0, 0, 255)).max() <= 5 * tolerance
    assert f"names {last + 1}" in refused(path, PixelReading(bands=(1, 1, last + 1)))
    assert describe_image(path).bands == last


def png(colour_type: int, pixels: NDArray[np.uint16], transparent: tuple[int, ...] = ()) -> bytes:
    """A 16-bit PNG."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
        + (chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("colour_type", "bands"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_all_16_bits_of_a_png_count(tmp_path, colour_type, bands):
    pixels = numbers("uint16", bands)
    path = written(tmp_path, png(colour_type, pixels))
    assert describe_image(path).bands == bands
    assert describe_image(path).bits == 16
    read = read_image(path, PixelReading(bands=(bands, 1, 1), value_range=(1000, 1255)))
    assert np.array_equal(read, np.clip(pixels[:, :, [bands - 1, 0, 0]].astype(int) - 1000, 0, 255))
    read = read_image(path, PixelReading(value_range=(1000, 65000)))
    scaled = np.clip((pixels / 1.0 - 1000) * 255 / 64000, 0, 255)[:, :, : 3 if bands > 2 else 1]
    opacity = pixels[:, :, -1:] / 65535 if bands in (2, 4) else 1.0
    assert np.abs(read - (255 - (255 - scaled) * opacity)).max() <= 1.1


def test_transparent_colour_of_a_deep_png_is_white(tmp_path):
    pixels = numbers("uint16", 3)
    path = written(tmp_path, png(2, pixels, tuple(int(value) for value in pixels[3, 4])))
    read = read_image(path, PixelReading(value_range=(0, 65535)))
    expected = np.rint(pixels / 257)
    expected[3, 4] = 255
    assert np.abs(read - expected).max() <= 0.5
    assert "has 3 bands" in refused(path, PixelReading(bands=(1, 2, 4)))


def test_transparency_is_laid_over_white_after_scaling(tmp_path):
    rgba = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [10, 20, 30, 51]]], dtype=np.uint8)
    path = written(tmp_path, saved(Image.fromarray(rgba), "PNG"))
    # 51 is a fifth: 255 - (255 - 5 v) / 5 = 204 + v.
    read = read_image(path, PixelReading(value_range=(0, 51)))
    assert read.tolist() == [[[255] * 3, [50, 100, 150], [214, 224, 234]]]
    assert read_image(path, PixelReading(bands=(4, 2, 1)))[0].tolist() == [[0, 20, 10], [255, 20, 10], [51, 20, 10]]


# Turned pictures


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bands", [1, 3, 6])
def test_deep_pictures_are_turned_like_shallow_ones(tmp_path, orientation, bands):
    pixels = numbers("uint16", bands, (7, 11))
    path = written(tmp_path, tiff(pixels, {258: (16,) * bands, 262: 1 if bands != 3 else 2, 274: orientation,
                                           277: bands, **({338: (0,) * 5} if bands == 6 else {})}))  # fmt: skip
    shown = pixels[:, :, [bands - 1, 0, bands - 1]] // 256
    upright = Image.fromarray(shown.astype(np.uint8))
    upright.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(upright))
    assert np.array_equal(read_image(path, PixelReading(bands=(bands, 1, bands))), expected)
    assert image_size_hw(path) == expected.shape[:2] == describe_image(path).size_hw
    assert describe_image(path).exif_orientation == orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_masks_are_turned_like_pictures(tmp_path, orientation):
    values = np.random.default_rng(0).integers(0, 9, (7, 11)).astype(np.float64)
    path = written(tmp_path, tiff(values, {258: 64, 274: orientation, 339: 3}))
    upright = Image.fromarray(values.astype(np.uint8))
    upright.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(upright))
    assert np.array_equal(read_mask(path).pixels, expected)
    assert image_size_hw(path) == expected.shape


# Masks


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [*DTYPES, "int64", "uint64"])
def test_masks_of_every_type_and_layout_keep_their_values(tmp_path, dtype, layout):
    options = LAYOUTS[layout]
    if dtype.endswith("64") and options.get("compress") == "lerc":
        pytest.skip("there is no such file")
    top = 127 if dtype == "int8" else 255
    values = np.random.default_rng(0).integers(0, top, SIZE_HW, endpoint=True).astype(dtype)
    if np.dtype(dtype).kind == "f" and "predictor" in options:
        options = {**options, "predictor": 3}
    path = write(tmp_path / "mask.tif", values, **options)
    mask = read_mask(path)
    assert np.array_equal(mask.pixels, values)
    assert mask.pixels.dtype in (np.uint8, np.uint16)
    assert image_size_hw(path) == mask.size_hw


@pytest.mark.parametrize(("dtype", "wrong"), [
    ("int8", -1), ("int16", -9999), ("uint32", 2**31 + 5), ("int64", 2**40), ("float64", 0.5), ("float64", np.nan),
])  # fmt: skip
def test_numbers_that_are_no_labels_are_refused(tmp_path, dtype, wrong):
    values = np.zeros((5, 6), dtype=dtype)
    values[3, 2] = wrong
    path = write(tmp_path / "mask.tif", values)
    with pytest.raises(DataError, match=f"value {wrong} at row 3, column 2 is no label") as error:
        read_mask(path)
    assert error.value.faults[0].code == "not-labels"


@pytest.mark.parametrize("bands", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("layout", ["interleaved", "planar lzw"])
def test_masks_of_several_bands_are_refused(tmp_path, dtype, bands, layout):
    path = write(tmp_path / "mask.tif", numbers(dtype, bands), photometric="MINISBLACK", ALPHA="NO", **LAYOUTS[layout])
    with pytest.raises(DataError, match=f"has {bands} bands; a mask has one") as error:
        read_mask(path)
    assert str(error.value).startswith(str(path))
    assert error.value.faults[0].code == "unsupported-pixels"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bands", [3, 4, 5])
def test_colour_masks_keep_their_colours(tmp_path, bands, layout):
    pixels = numbers("uint8", bands)
    path = write(tmp_path / "mask.tif", pixels, photometric="RGB", ALPHA="NO", **LAYOUTS[layout])
    assert np.array_equal(read_mask(path).pixels, pixels[:, :, :3])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_alpha_of_grey_masks_is_dropped(tmp_path, dtype):
    pixels = numbers(dtype, 2)
    path = write(tmp_path / "mask.tif", pixels, ALPHA="YES", interleave="band")
    assert np.array_equal(read_mask(path).pixels, pixels[:, :, 0])


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_deep_colours_name_no_label(tmp_path, dtype):
    path = write(tmp_path / "mask.tif", numbers(dtype, 3), photometric="RGB", interleave="band")
    with pytest.raises(DataError, match=r"holds colours of .* a channel; masks have 8 bits"):
        read_mask(path)


# What the header says


@pytest.mark.parametrize(("dtype", "bands", "options", "kind", "bits", "has_alpha"), [
    ("uint8", 1, {}, "grey", 8, False),
    ("uint16", 3, {"photometric": "RGB"}, "RGB", 16, False),
    ("uint8", 4, {"photometric": "RGB", "ALPHA": "YES"}, "RGB", 8, True),
    ("uint8", 4, {"photometric": "RGB", "ALPHA": "NO"}, "bands", 8, False),
    ("uint16", 8, {"interleave": "band"}, "bands", 16, False),
    ("float32", 1, {}, "float", 32, False),
    ("float64", 5, {"BIGTIFF": "YES"}, "float", 64, False),
    ("int16", 1, {"compress": "lerc"}, "integer", 16, False),
    ("uint32", 1, {}, "integer", 32, False),
])  # fmt: skip
def test_facts_of_deep_pictures(tmp_path, dtype, bands, options, kind, bits, has_alpha):
    facts = describe_image(write(tmp_path / "a.tif", numbers(dtype, bands), **options))
    assert (facts.format, facts.size_hw, facts.frames, facts.exif_orientation) == ("TIFF", SIZE_HW, 1, 1)
    assert (facts.kind, facts.bands, facts.bits, facts.has_alpha) == (kind, bands, bits, has_alpha)


def test_overviews_and_masks_are_no_pages(tmp_path):
    # NewSubfileType: bit 0 a smaller copy, bit 1 a page of several, bit 2 a mask.
    grey = np.arange(77, dtype=np.uint8).reshape(7, 11)
    for page_kinds, expected in [((0,), 1), ((0, 1, 1), 1), ((0, 4, 1, 5), 1), ((0, 0), 2), ((2, 2, 2), 3)]:
        path = written(tmp_path, tiff(grey, {}, page_kinds))
        assert describe_image(path).frames == expected
        assert np.array_equal(read_image(path)[:, :, 0], grey)
    path = write(tmp_path / "overviews.tif", numbers("uint16", 5, (256, 256)))
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4])
    with rasterio.open(path) as file:
        assert file.overviews(1) == [2, 4]
    assert describe_image(path).frames == 1


def test_pages_that_lead_in_a_circle_end(tmp_path):
    data = bytearray(tiff(np.zeros((2, 2), np.uint8), {}))
    data[-4:] = data[4:8]
    assert describe_image(written(tmp_path, bytes(data))).frames == 1


# Without rasterio, broken, too large


def test_missing_rasterio_is_named_with_the_file_and_the_way_out(tmp_path, monkeypatch):
    deep = write(tmp_path / "deep.tif", numbers("uint16", 8))
    mask = write(tmp_path / "mask.tif", np.ones(SIZE_HW), compress="deflate")
    plain = write(tmp_path / "plain.tif", numbers("uint8", 3), compress="lzw")
    monkeypatch.setitem(sys.modules, "rasterio", None)
    message = refused(deep, PixelReading(bands=(3, 2, 1)))
    assert "is a TIFF of 8 bands, 16 bits" in message
    assert 'pip install "pixbox[geo]"' in message
    with pytest.raises(DataError, match=r'a TIFF of 1 band, 64 bits floats.*\n.*pip install "pixbox\[geo\]"'):
        read_mask(mask)
    assert read_image(plain).shape == (*SIZE_HW, 3)
    assert image_size_hw(deep) == image_size_hw(mask) == SIZE_HW
    assert describe_image(deep).bands == 8


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("dtype", "bands"), [("uint8", 1), ("uint8", 3), ("uint16", 8), ("float64", 1)])
def test_incomplete_files_are_refused_in_silence(tmp_path, dtype, bands, layout, capfd):
    if (dtype, layout) == ("float64", "deflate"):
        pytest.skip("floats have another predictor")
    whole = write(tmp_path / "whole.tif", numbers(dtype, bands), **LAYOUTS[layout]).read_bytes()
    capfd.readouterr()
    reading = PixelReading(bands=(bands, 1, 1), value_range=(0, 9))
    # The last bytes of a tile may lie outside the picture.
    for cut in (len(whole) // 3, 900, *((1,) if "tiles" not in layout and layout != "tiled" else ())):
        path = written(tmp_path, whole[:-cut], "cut.tif")
        for read in (lambda path: read_image(path, reading), *((read_mask,) if bands == 1 else ())):
            with pytest.raises(DataError, match="the TIFF file is incomplete or damaged") as error:
                read(path)
            assert str(error.value).startswith(f"{path}: ")
            assert error.value.faults[0].code == "truncated-file"
    assert capfd.readouterr() == ("", "")


def test_wrong_bytes_are_a_clear_error_or_other_pixels_never_a_crash(tmp_path):
    random = np.random.default_rng(0)
    for layout, dtype, bands in [("interleaved", "uint16", 5), ("planar deflated tiles", "float32", 6),
                                 ("BigTIFF", "uint8", 8), ("deflate", "uint8", 3)]:  # fmt: skip
        options = {**LAYOUTS[layout]}
        whole = write(tmp_path / "whole.tif", numbers(dtype, bands, (20, 30)), **options).read_bytes()
        for _ in range(150):
            data = bytearray(whole)
            for position in random.integers(0, 400, 3):
                data[position] = random.integers(0, 256)
            path = written(tmp_path, bytes(data), "wrong.tif")
            with contextlib.suppress(DataError):
                size_hw = image_size_hw(path)
                assert read_image(path, PixelReading(bands=(3, 2, 1), value_range=(0, 9))).shape == (*size_hw, 3)


@pytest.mark.parametrize("read", [
    lambda path: read_image(path, PixelReading(bands=(1, 2, 3))), image_size_hw, describe_image, read_mask,
])  # fmt: skip
@pytest.mark.parametrize("bands", [1, 8])
def test_decompression_bomb_of_bands_is_refused(tmp_path, read, bands, monkeypatch):
    path = write(tmp_path / "bomb.tif", numbers("float64", bands))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 45 * 61 // 2 - 1)
    with pytest.raises(DataError, match=r"more than 2,742 pixels.*\n.*tiles") as error:
        read(path)
    assert error.value.faults[0].code == "too-large"


def test_files_beside_a_picture_do_not_change_it(tmp_path):
    pixels = numbers("uint16", 5)
    path = write(tmp_path / "a.tif", pixels)
    (tmp_path / "a.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><NoDataValue>7</NoDataValue></PAMRasterBand></PAMDataset>"
    )
    reading = PixelReading(bands=(1, 2, 3), value_range=(0, 65535))
    assert_nearest(read_image(path, reading), pixels[:, :, :3], 0, 65535)


@pytest.mark.parametrize("wrong", [
    {"bands": (0, 1, 2)}, {"bands": (1, 2)}, {"value_range": (5, 5)}, {"value_range": (9, 1)},
    {"value_range": (0, float("nan"))}, {"value_range": (0, float("inf"))},
])  # fmt: skip
def test_impossible_readings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"bands are|a value range is"):
        PixelReading(**wrong)
