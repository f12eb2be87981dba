from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, PngImagePlugin

from pixbox.data import images
from pixbox.data.images import ImageFacts, describe_image, image_size_hw, read_image, read_mask
from pixbox.errors import DataError
from pixbox.labels import LabelMap

CCP = Path(__file__).parents[2].parent / "shared" / "data" / "ccp"


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    """(45, 61, 3): smooth colours, odd sizes, so that chroma subsampling matters."""
    noise = np.random.default_rng(0).integers(0, 256, (45, 61, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 3) * np.uint8(1))


def saved(pixels: NDArray | Image.Image, kind: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def written(folder: Path, data: bytes, name: str = "picture.bin") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# Pictures


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 90}),
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("JPEG", {"quality": 80, "progressive": True}),
        ("JPEG", {"quality": 90, "keep_rgb": True}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_plain_pictures_equal_pillow(tmp_path, photo, kind, options, mode):
    if mode == "L":
        options = {key: value for key, value in options.items() if key != "keep_rgb"}
    data = saved(Image.fromarray(photo).convert(mode), kind, **options)
    read = read_image(written(tmp_path, data))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    # Two builds of libjpeg may round differently.
    assert np.abs(read.astype(int) - expected).max() <= (2 if kind == "JPEG" else 0)
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    assert read.flags.writeable


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "L")])
def test_fast_and_slow_path_agree(tmp_path, photo, kind, mode, monkeypatch):
    path = written(tmp_path, saved(Image.fromarray(photo).convert(mode), kind))
    with monkeypatch.context() as only_fast:
        only_fast.setattr(images, "_to_rgb", lambda *_: pytest.fail("the slow path was taken"))
        fast = read_image(path)
    with monkeypatch.context() as only_slow:
        only_slow.setattr(images, "_decode_plain", lambda *_: None)
        slow = read_image(path)
    assert np.abs(fast.astype(int) - slow).max() <= (2 if kind == "JPEG" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_to_pictures_masks_and_sizes(tmp_path, photo, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = saved(photo, kind, quality=100)
    data = saved(photo, kind, quality=100, exif=exif)
    tagged = Image.open(io.BytesIO(upright))
    tagged.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(tagged))
    path = written(tmp_path, data)
    assert np.abs(read_image(path).astype(int) - expected).max() <= (2 if kind == "JPEG" else 0)
    assert np.array_equal(read_mask(path).pixels, expected)
    assert image_size_hw(path) == expected.shape[:2]
    facts = describe_image(path)
    assert (facts.exif_orientation, facts.size_hw) == (orientation, expected.shape[:2])


def test_orientation_behind_the_pixels_of_a_png_is_found(tmp_path, photo):
    data = saved(photo, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    late = data[:-12] + png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + data[-12:]
    path = written(tmp_path, late)
    assert np.array_equal(read_image(path), np.rot90(photo, -1))
    assert image_size_hw(path) == (61, 45)


@pytest.mark.parametrize("keyword", ["XML:com.adobe.xmp", "Comment"])
def test_orientation_in_a_text_of_a_png_is_found_where_viewers_look_for_it(tmp_path, photo, keyword):
    text = PngImagePlugin.PngInfo()
    text.add_itxt(keyword, '<rdf:Description tiff:Orientation="6"/>')
    data = saved(photo, "PNG", pnginfo=text)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert (expected.shape == photo.shape) == (keyword == "Comment")
    path = written(tmp_path, data)
    assert np.array_equal(read_image(path), expected)
    assert image_size_hw(path) == expected.shape[:2]


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_hide_a_picture(tmp_path, photo, exif):
    assert read_image(written(tmp_path, saved(photo, "JPEG", exif=exif))).shape == photo.shape


def test_transparency_is_laid_over_white(tmp_path):
    rgba = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [100, 0, 255, 51]]], dtype=np.uint8)
    read = read_image(written(tmp_path, saved(rgba, "PNG")))
    assert read[0, 0].tolist() == [255, 255, 255]
    assert read[0, 1].tolist() == [10, 20, 30]
    # 51 / 255 = 0.2: 0.2 * colour + 0.8 * 255
    assert read[0, 2].tolist() == [224, 204, 255]


def test_grey_palette_and_single_colour_transparency_are_laid_over_white(tmp_path):
    grey = Image.fromarray(np.array([[[50, 0], [50, 255]]], dtype=np.uint8), "LA")
    assert read_image(written(tmp_path, saved(grey, "PNG")))[0, :, 0].tolist() == [255, 50]
    indexed = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    indexed.putpalette([1, 2, 3, 40, 50, 60])
    read = read_image(written(tmp_path, saved(indexed, "PNG", transparency=0)))
    assert read.tolist() == [[[255, 255, 255], [40, 50, 60]]]
    keyed = np.array([[[9, 9, 9], [8, 8, 8]]], dtype=np.uint8)
    assert read_image(written(tmp_path, saved(keyed, "PNG", transparency=(9, 9, 9))))[0, :, 0].tolist() == [255, 8]


def test_palette_is_expanded(tmp_path):
    indexed = Image.fromarray(np.array([[2, 0], [1, 2]], dtype=np.uint8))
    indexed.putpalette([255, 0, 0, 0, 255, 0, 7, 8, 9])
    for kind in ("PNG", "GIF", "BMP"):
        read = read_image(written(tmp_path, saved(indexed, kind)))
        assert read.tolist() == [[[7, 8, 9], [255, 0, 0]], [[0, 255, 0], [7, 8, 9]]]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(tmp_path, kind):
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    read = read_image(written(tmp_path, saved(cyan, kind, quality=100)))
    assert np.abs(read.astype(int) - [0, 255, 255]).max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, kind):
    grey = np.array([[0, 255, 256, 100 * 257, 65535]], dtype=np.uint16)
    read = read_image(written(tmp_path, saved(grey, kind)))
    assert read[0].tolist() == [[0] * 3, [0] * 3, [1] * 3, [100] * 3, [255] * 3]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_colours_are_scaled_not_clipped(tmp_path, suffix):
    bgr = np.array([[[65535, 100 * 257, 0], [255, 256, 40000]]], dtype=np.uint16)
    path = written(tmp_path, cv2.imencode(suffix, bgr)[1].tobytes())
    assert read_image(path).tolist() == [[[0, 100, 255], [156, 1, 0]]]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_pngs_of_few_bits_span_black_to_white(tmp_path, bits):
    # Grey samples of n bits stand for v / (2^n - 1) of white (PNG specification, 13.12).
    top = 2**bits - 1
    row = b"".join(f"{value:0{bits}b}".encode() for value in (0, top, 1, 0, 0, 0, 0, 0))
    body = bytes([0]) + int(row, 2).to_bytes(bits, "big")
    data = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0))
        + png_chunk(b"IDAT", zlib.compress(body))
        + png_chunk(b"IEND", b"")
    )
    assert read_image(written(tmp_path, data))[0, :3, 0].tolist() == [0, 255, 255 // top]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_numbers_without_a_brightest_value_are_refused(tmp_path, dtype):
    path = written(tmp_path, saved(np.ones((3, 4), dtype=dtype), "TIFF"))
    with pytest.raises(DataError, match=r"brightest value is not known\n.*data\.value_range") as error:
        read_image(path)
    assert str(error.value).startswith(str(path))
    assert error.value.faults[0].code == "unsupported-pixels"


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_counts(tmp_path, kind):
    first, second = Image.new("RGB", (9, 7), (255, 0, 0)), Image.new("RGB", (9, 7), (0, 0, 255))
    data = saved(first, kind, save_all=True, append_images=[second], **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(read_image(written(tmp_path, data)), np.asarray(first))


def test_phone_picture_with_several_frames_is_read(tmp_path, photo):
    data = saved(photo, "MPO", save_all=True, append_images=[Image.fromarray(photo[::-1])], quality=100)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert np.abs(read_image(written(tmp_path, data)).astype(int) - photo).mean() < 2


def test_content_counts_not_the_suffix(tmp_path, photo):
    assert np.array_equal(read_image(written(tmp_path, saved(photo, "PNG"), "wrong.jpg")), photo)


def test_bytes_behind_a_complete_picture_do_no_harm(tmp_path, photo):
    for kind in ("JPEG", "PNG"):
        assert read_image(written(tmp_path, saved(photo, kind) + b"more" * 9)).shape == photo.shape


# Broken files


def damaged(photo: NDArray[np.uint8]) -> dict[str, bytes]:
    jpeg, progressive = saved(photo, "JPEG", quality=95), saved(photo, "JPEG", progressive=True)
    png = saved(photo, "PNG")
    half = len(png) // 2
    thumbnail = Image.fromarray(photo)
    exif = b"Exif\0\0" + b"II*\0\x08\0\0\0\0\0\0\0\0\0" + saved(thumbnail.resize((8, 8)), "JPEG")
    with_thumbnail = saved(photo, "JPEG", exif=exif)
    pixels = png.index(b"IDAT") + 20
    flipped = png[:pixels] + bytes([png[pixels] ^ 1]) + png[pixels + 1 :]
    wholes = {kind: saved(photo, kind) for kind in ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")}
    cut = {kind: data[: -len(data) // 3] for kind, data in wholes.items()}
    return {
        **{f"{kind} cut by a third": data for kind, data in cut.items()},
        "JPEG without its last two bytes": jpeg[:-2],
        "JPEG whose second half is zeros": jpeg[: len(jpeg) // 2] + bytes(len(jpeg) - len(jpeg) // 2),
        "progressive JPEG cut in half": progressive[: len(progressive) // 2],
        "JPEG with a whole thumbnail, cut": with_thumbnail[:-40],
        "JPEG cut within its header": jpeg[:30],
        "PNG without its last byte": png[:-1],
        "PNG whose second half is zeros": png[:half] + bytes(len(png) - half),
        "PNG with one wrong bit": flipped,
        "empty": b"",
        "text": b"<html>404 Not Found</html>",
        "zeros": bytes(500),
        "unknown": b"\x93NUMPY\x01\x00" + bytes(100),
        "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    }


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_every_damaged_file_is_refused_by_name(tmp_path, photo, read):
    for what, data in damaged(photo).items():
        path = written(tmp_path, data, f"{what}.jpg")
        with pytest.raises(DataError) as error:
            read(path)
        assert str(error.value).startswith(f"{path}: ")
        assert error.value.faults[0].hint


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("empty", "the file is empty"),
        ("text", "is text, not a picture"),
        ("zeros", "holds zeros only"),
        ("unknown", "is not a picture that can be read: JPEG,"),
        ("Git LFS", "is a Git LFS pointer"),
        ("JPEG without its last two bytes", "the JPEG file is incomplete or damaged: its end marker is missing"),
        ("PNG without its last byte", "the PNG file is incomplete or damaged: it ends too early"),
        ("PNG with one wrong bit", "the PNG file is incomplete or damaged: a checksum is wrong"),
    ],
)
def test_the_message_says_what_was_found(tmp_path, photo, what, expected):
    with pytest.raises(DataError, match=expected):
        read_image(written(tmp_path, damaged(photo)[what]))


def test_every_fault_of_a_file_has_its_code(tmp_path, photo):
    cut = ("cut", "without its last", "GIF", "WEBP")
    for what, data in damaged(photo).items():
        expected = "truncated-file" if any(word in what for word in cut) else "damaged-file"
        if what in ("text", "zeros", "unknown", "Git LFS", "empty"):
            expected = "empty-file" if what == "empty" else "unreadable-file"
        if what == "JPEG whose second half is zeros":
            expected = "truncated-file"  # What is left of it has no end marker.
        for read in (read_image, read_mask):
            with pytest.raises(DataError) as error:
                read(written(tmp_path, data))
            assert (what, error.value.faults[0].code) == (what, expected)


def test_no_decoder_complains_about_damaged_files_on_standard_error(tmp_path, photo, capfd):
    for data in damaged(photo).values():
        for read in (read_image, read_mask):
            with pytest.raises(DataError):
                read(written(tmp_path, data))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("read", [read_image, read_mask, image_size_hw, describe_image])
def test_missing_files_and_folders_name_themselves(tmp_path, read):
    for name in ("none.png", "none.mat"):
        with pytest.raises(DataError, match=f"{tmp_path / name}: no such file") as error:
            read(tmp_path / name)
        assert error.value.faults[0].code == "missing-file"
    with pytest.raises(DataError, match=f"{tmp_path}: cannot be read") as error:
        read(tmp_path)
    assert error.value.faults[0].code == "unreadable-file"


def test_truncated_files_stay_forbidden_for_the_whole_process():
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("read", [read_image, read_mask, image_size_hw, describe_image])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_decompression_bomb_is_refused(tmp_path, photo, read, kind, monkeypatch):
    path = written(tmp_path, saved(photo, kind))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 45 * 61 // 2 - 1)
    with pytest.raises(DataError, match=r"more than 2,742 pixels.*\n.*tiles") as error:
        read(path)
    assert error.value.faults[0].code == "too-large"


def test_size_comes_from_the_header_alone(tmp_path, photo):
    for kind in ("JPEG", "PNG", "BMP"):
        path = written(tmp_path, saved(photo, kind, quality=95)[:-500])
        assert image_size_hw(path) == (45, 61)
        assert describe_image(path).size_hw == (45, 61)


# What the header says


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"])
@pytest.mark.parametrize(("mode", "expected", "bands", "bits", "has_alpha"), [
    ("RGB", "RGB", 3, 8, False), ("L", "grey", 1, 8, False), ("1", "grey", 1, 1, False), ("P", "palette", 3, 8, False),
    ("RGBA", "RGB", 4, 8, True), ("LA", "grey", 2, 8, True), ("I;16", "grey", 1, 16, False),
    ("CMYK", "CMYK", 3, 8, False),
])  # fmt: skip
def test_kind_bands_and_bits_are_those_of_the_file(tmp_path, photo, kind, mode, expected, bands, bits, has_alpha):
    image = Image.fromarray(photo).convert("L" if mode == "I;16" else mode).convert(mode)
    try:
        # Pillow drops or converts what a format does not have.
        path = written(tmp_path, saved(image, kind))
    except (OSError, ValueError):
        pytest.skip("there is no such file")
    if Image.open(path).mode != mode:
        pytest.skip("the format has no such pixels")
    facts = describe_image(path)
    assert facts == ImageFacts(kind, (45, 61), bands, bits, expected, 1, 1, has_alpha)
    assert facts.size_hw == read_image(path).shape[:2]


def test_bits_of_small_palettes_and_deep_colours(tmp_path, photo):
    indexed = Image.fromarray(photo).quantize(9)
    assert describe_image(written(tmp_path, saved(indexed, "PNG", bits=4))).bits == 4
    for suffix, bands in ((".png", 3), (".tif", 3), (".png", 4)):
        deep = np.zeros((4, 5, bands), dtype=np.uint16)
        facts = describe_image(written(tmp_path, cv2.imencode(suffix, deep)[1].tobytes()))
        assert (facts.kind, facts.bands, facts.bits, facts.has_alpha) == ("RGB", bands, 16, bands == 4)


def test_transparent_colour_is_alpha_but_no_band(tmp_path, photo):
    path = written(tmp_path, saved(photo, "PNG", transparency=(1, 2, 3)))
    assert describe_image(path).has_alpha
    assert describe_image(path).bands == 3
    indexed = Image.fromarray(photo).quantize(9)
    for kind in ("PNG", "GIF"):
        assert describe_image(written(tmp_path, saved(indexed, kind, transparency=0))).has_alpha
        assert not describe_image(written(tmp_path, saved(indexed, kind))).has_alpha


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_frames_are_counted(tmp_path, photo, kind):
    first, others = Image.fromarray(photo), [Image.fromarray(photo[::-1]), Image.fromarray(photo[:, ::-1])]
    path = written(tmp_path, saved(first, kind, save_all=True, append_images=others))
    assert describe_image(path).frames == 3
    assert describe_image(written(tmp_path, saved(first, kind))).frames == 1


def test_previews_in_a_phone_picture_are_no_frames(tmp_path, photo):
    data = saved(Image.fromarray(photo), "MPO", save_all=True, append_images=[Image.fromarray(photo[::-1])])
    facts = describe_image(written(tmp_path, data))
    assert (facts.format, facts.frames) == ("MPO", 1)


# Masks

VALUES = np.array([[0, 1, 2], [150, 254, 255]], dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_palette_masks_keep_their_indices(tmp_path, kind):
    indexed = Image.fromarray(VALUES)
    palette = np.random.default_rng(1).integers(0, 256, (256, 3), dtype=np.uint8)
    indexed.putpalette(palette.ravel().tolist())
    options = {"optimize": False} if kind == "GIF" else {}
    mask = read_mask(written(tmp_path, saved(indexed, kind, **options)))
    assert np.array_equal(mask.pixels, VALUES)
    assert mask.palette is not None
    assert np.array_equal(mask.palette, palette[: len(mask.palette)])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_grey_masks_keep_their_values(tmp_path, kind):
    mask = read_mask(written(tmp_path, saved(VALUES, kind)))
    assert np.array_equal(mask.pixels, VALUES)
    assert mask.pixels.dtype == np.uint8
    assert mask.palette is None


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_masks_keep_their_values(tmp_path, kind):
    values = np.array([[0, 255, 256], [1000, 33000, 65535]], dtype=np.uint16)
    mask = read_mask(written(tmp_path, saved(values, kind)))
    assert np.array_equal(mask.pixels, values)
    assert mask.pixels.dtype == np.uint16


def test_big_endian_16_bit_masks_keep_their_values(tmp_path):
    data = saved(np.array([[1, 515]], dtype=">u2"), "TIFF")
    assert data[:2] == b"MM"
    mask = read_mask(written(tmp_path, data))
    assert mask.pixels.tolist() == [[1, 515]]
    assert mask.pixels.dtype == np.dtype("=u2")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_1_bit_masks_are_0_and_1(tmp_path, kind):
    bits = Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8)).convert("1")
    assert read_mask(written(tmp_path, saved(bits, kind))).pixels.tolist() == [[0, 1], [1, 0]]


def test_transparency_of_masks_is_dropped(tmp_path):
    rgba = np.array([[[10, 20, 30, 0], [40, 50, 60, 255]]], dtype=np.uint8)
    mask = read_mask(written(tmp_path, saved(rgba, "PNG")))
    assert mask.pixels.tolist() == [[[10, 20, 30], [40, 50, 60]]]
    grey = Image.fromarray(np.array([[[7, 0], [8, 255]]], dtype=np.uint8), "LA")
    assert read_mask(written(tmp_path, saved(grey, "PNG"))).pixels.tolist() == [[7, 8]]
    indexed = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    indexed.putpalette([1, 2, 3, 40, 50, 60])
    assert read_mask(written(tmp_path, saved(indexed, "PNG", transparency=0))).pixels.tolist() == [[0, 1]]


def test_colours_that_cannot_be_exact_are_refused(tmp_path):
    with pytest.raises(DataError, match="CMYK colours, which name no label"):
        read_mask(written(tmp_path, saved(Image.new("CMYK", (4, 4)), "TIFF")))
    for suffix in (".png", ".tif"):
        deep = cv2.imencode(suffix, np.ones((4, 4, 3), dtype=np.uint16))[1].tobytes()
        with pytest.raises(DataError, match="colours of 16 bits a channel"):
            read_mask(written(tmp_path, deep))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_whole_numbers_of_other_types_are_labels(tmp_path, dtype):
    mask = read_mask(written(tmp_path, saved(np.array([[0, 58], [7, 255]], dtype=dtype), "TIFF")))
    assert mask.pixels.dtype == np.uint8
    assert mask.pixels.tolist() == [[0, 58], [7, 255]]
    large = read_mask(written(tmp_path, saved(np.array([[0, 65535]], dtype=dtype), "TIFF")))
    assert large.pixels.dtype == np.uint16
    assert large.pixels.tolist() == [[0, 65535]]


@pytest.mark.parametrize("wrong", [0.5, -1.0, 65536.0, float("nan"), float("inf")])
def test_numbers_that_are_no_labels_are_refused_with_their_place(tmp_path, wrong):
    values = np.zeros((5, 6), dtype=np.float32)
    values[3, 2] = wrong
    path = written(tmp_path, saved(values, "TIFF"))
    with pytest.raises(DataError, match=f"value {np.float32(wrong)} at row 3, column 2 is no label") as error:
        read_mask(path)
    assert str(error.value).startswith(str(path))


# MATLAB files


def mat(folder: Path, **variables: object) -> Path:
    path = folder / "mask.mat"
    scipy.io.savemat(path, variables)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64, np.int16])
def test_mat_groundtruth_is_read(tmp_path, dtype):
    # MATLAB's numbers are doubles unless someone converts them.
    path = mat(tmp_path, groundtruth=VALUES.astype(dtype), other=np.zeros((4, 4)))
    assert np.array_equal(read_mask(path).pixels, VALUES)
    assert image_size_hw(path) == (2, 3)


def test_mat_with_one_matrix_of_any_name_is_read(tmp_path):
    path = mat(tmp_path, labels=VALUES, version=3, author="someone")
    assert np.array_equal(read_mask(path).pixels, VALUES)


def test_mat_of_the_semantic_boundaries_set_is_read(tmp_path):
    boundaries = np.array([[VALUES], [VALUES]], dtype=object)
    struct_ = {"Segmentation": VALUES, "Boundaries": boundaries, "CategoriesPresent": np.array([[1, 2]])}
    assert np.array_equal(read_mask(mat(tmp_path, GTcls=struct_)).pixels, VALUES)


def test_mat_with_several_matrices_lists_them(tmp_path):
    path = mat(tmp_path, first=np.zeros((4, 5)), second=np.zeros((6, 7)))
    with pytest.raises(DataError, match=r"several matrices: first 4x5, second 6x7; looked for `groundtruth`") as error:
        read_mask(path)
    assert str(error.value).startswith(str(path))


def test_mat_whose_groundtruth_is_no_matrix_is_refused(tmp_path):
    path = mat(tmp_path, groundtruth=np.zeros((4, 5, 3)), other=VALUES)
    with pytest.raises(DataError, match="no matrix of labels"):
        read_mask(path)


def test_mat_with_wrong_values_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"value 1\.5 at row 0, column 1"):
        read_mask(mat(tmp_path, groundtruth=np.array([[1.0, 1.5]])))


def test_broken_mat_files_name_themselves(tmp_path):
    whole = mat(tmp_path, groundtruth=np.random.default_rng(0).integers(0, 9, (40, 40), dtype=np.uint8)).read_bytes()
    new = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400)
    cases = {
        whole[: len(whole) // 2]: ("not a .mat file, or incomplete", "damaged-file"),
        b"": ("the file is empty", "empty-file"),
        b"hello": ("not a .mat file, or incomplete", "damaged-file"),
        new: ("MATLAB 7.3", "unreadable-file"),
    }
    for data, (expected, code) in cases.items():
        path = written(tmp_path, data, "broken.MAT")
        with pytest.raises(DataError, match=expected) as error:
            read_mask(path)
        assert str(error.value).startswith(str(path))
        assert error.value.faults[0].code == code


def test_mat_mask_becomes_class_indices(tmp_path):
    labels = LabelMap.model_validate({"classes": ["null", "hair", "skin"], "ignore": [9]})
    classes = labels.encode(read_mask(mat(tmp_path, groundtruth=np.array([[0.0, 2.0], [9.0, 1.0]]))))
    assert classes.tolist() == [[0, 2], [255, 1]]


@pytest.mark.skipif(not CCP.is_dir(), reason="the clothing pictures are not here")
def test_real_photo_and_mat_mask_agree_with_their_own_readers():
    photo, mask = CCP / "photos" / "0001.jpg", CCP / "annotations" / "pixel-level" / "0001.mat"
    assert np.abs(read_image(photo).astype(int) - np.asarray(Image.open(photo))).max() <= 2
    assert np.array_equal(read_mask(mask).pixels, scipy.io.loadmat(mask)["groundtruth"])
    assert image_size_hw(photo) == image_size_hw(mask) == (832, 550)
