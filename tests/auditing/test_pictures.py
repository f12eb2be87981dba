from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixbox.auditing.pictures import MIRRORED, PictureFacts, inspect_picture, inspect_pictures, look_of, small_grey
from pixbox.data.images import PixelReading, read_image
from pixbox.sample import Record

Write = Callable[[bytes], Record]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A record of a file that holds these bytes."""

    def write_file(data: bytes) -> Record:
        path = tmp_path / "picture.jpg"
        path.write_bytes(data)
        return Record("photos/picture", path, None)

    return write_file


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    """(90, 122, 3) uint8: smooth colours with some noise."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((122, 90), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + rng.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)


def encoded(pixels: NDArray | Image.Image, kind: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, bits: int, colour_type: int, rows: bytes) -> bytes:
    """A PNG file by hand; ``rows`` are the pixels, each row behind a zero for "no filter"."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def deep_png(values: NDArray[np.uint16]) -> bytes:
    """(H, W) or (H, W, 3) numbers as a PNG of 16 bits a channel."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(width, height, 16, 0 if values.ndim == 2 else 2, rows)


def codes(facts: PictureFacts) -> list[str]:
    return [finding.code for finding in facts.findings]


def test_a_sound_picture_gives_its_figures_and_no_findings(write: Write, photo: NDArray[np.uint8]) -> None:
    data = encoded(photo, "PNG")
    record = write(data)
    facts = inspect_picture(record)
    assert facts.findings == ()
    assert (facts.id, facts.file, facts.size_hw, facts.exif_orientation) == (record.id, record.image, (90, 122), 1)
    assert facts.content == blake2b(data, digest_size=16).digest()
    assert not facts.is_flat
    exact = photo.reshape(-1, 3) / 255
    assert facts.pixels == len(exact)
    assert facts.channel_sums == pytest.approx(exact.sum(axis=0))
    assert facts.channel_squares == pytest.approx((exact**2).sum(axis=0))


def test_figures_of_large_pictures_are_close_to_those_of_all_pixels(write: Write) -> None:
    smooth = Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 12, 3), dtype=np.uint8))
    large = np.asarray(smooth.resize((701, 513), Image.Resampling.BICUBIC))
    facts = inspect_picture(write(encoded(large, "BMP")))
    exact = large.reshape(-1, 3) / 255
    means = np.array(facts.channel_sums) / facts.pixels
    stds = np.sqrt(np.array(facts.channel_squares) / facts.pixels - means**2)
    assert facts.pixels == 701 * 513
    assert np.abs(means - exact.mean(axis=0)).max() < 1e-3
    assert stds == pytest.approx(exact.std(axis=0), rel=0.01)


def test_figures_are_those_of_the_picture_as_it_is_read(write: Write) -> None:
    record = write(deep_png(np.full((40, 50), 3000, dtype=np.uint16)))
    facts = inspect_picture(record, PixelReading(value_range=(0, 4000)))
    # 3000 / 4000 * 255 = 191.25
    assert np.array(facts.channel_sums) / facts.pixels == pytest.approx([191 / 255] * 3)
    assert codes(facts) == []  # Whoever says what is black and white knows of the 16 bits.


def test_a_picture_of_one_colour_is_flat(write: Write) -> None:
    assert inspect_picture(write(encoded(Image.new("RGB", (60, 50), (9, 90, 200)), "PNG"))).is_flat


def test_a_look_hardly_changes_when_a_picture_is_saved_anew_and_mirrored_bits_are_known(
    write: Write, photo: NDArray[np.uint8]
) -> None:
    look = inspect_picture(write(encoded(photo, "PNG"))).look
    again = inspect_picture(write(encoded(photo, "JPEG", quality=50))).look
    mirrored = inspect_picture(write(encoded(photo[:, ::-1], "PNG"))).look
    other = inspect_picture(write(encoded(np.rot90(photo), "PNG"))).look
    assert look is not None
    assert again is not None
    assert mirrored is not None
    assert other is not None
    assert (look ^ again).bit_count() <= 3
    assert (look ^ mirrored ^ MIRRORED).bit_count() <= 3
    assert (look ^ other).bit_count() > 12


def test_a_look_is_the_signs_of_the_lowest_cosine_frequencies() -> None:
    small = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    place = (2 * np.arange(32) + 1) * np.pi / 64
    waves = np.cos(np.arange(8)[:, None] * place[None])
    signs = (waves @ small @ waves.T > 0).ravel()
    assert look_of(small) == sum(1 << (63 - bit) for bit in np.flatnonzero(signs).tolist())


def test_a_small_grey_picture_holds_the_means_of_its_areas() -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    image = np.repeat(np.repeat(blocks, 20, axis=0), 12, axis=1)[:, :, None].repeat(3, axis=2)
    assert np.array_equal(small_grey(image), blocks)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ("nothing", "empty-file"),
        ("random bytes", "unreadable-file"),
        ("text", "unreadable-file"),
        ("half a JPEG", "truncated-file"),
        ("half a PNG", "truncated-file"),
        ("a wrong byte", "damaged-file"),
        ("a bomb", "too-large"),
        ("floats", "unsupported-pixels"),
    ],
)
def test_each_damage_is_found_and_named(write: Write, photo: NDArray[np.uint8], damage: str, code: str) -> None:
    jpeg, whole = encoded(photo, "JPEG"), encoded(photo, "PNG")
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 0xFF
    data = {
        "nothing": b"",
        "random bytes": np.random.default_rng(0).bytes(5000),
        "text": b"<html>404 Not Found</html>",
        "half a JPEG": jpeg[: len(jpeg) // 2],
        "half a PNG": whole[: len(whole) // 2],
        "a wrong byte": bytes(broken),
        "a bomb": png(40_000, 40_000, 8, 0, b""),
        "floats": encoded(Image.fromarray(np.zeros((40, 40), dtype=np.float32)), "TIFF"),
    }[damage]
    record = write(data)
    facts = inspect_picture(record)
    (finding,) = facts.findings
    assert (finding.code, finding.severity, finding.id) == (code, "error", record.id)
    assert finding.file == str(record.image)
    assert finding.hint
    assert (facts.size_hw, facts.look, facts.pixels, facts.channel_sums) == (None, None, 0, (0, 0, 0))
    assert facts.content == blake2b(data, digest_size=16).digest()


def test_a_file_that_is_gone_is_found(tmp_path: Path) -> None:
    facts = inspect_picture(Record("a", tmp_path / "a.png", None))
    assert codes(facts) == ["missing-file"]
    assert facts.content == b""


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_frames_are_counted(write: Write, photo: NDArray[np.uint8], kind: str) -> None:
    first = Image.fromarray(photo)
    others = [Image.fromarray(np.roll(photo, 20 * turn, axis=1)) for turn in (1, 2)]
    facts = inspect_picture(write(encoded(first, kind, save_all=True, append_images=others)))
    (finding,) = facts.findings
    assert (finding.code, finding.severity, finding.details) == ("animated-file", "warning", {"frames": 3})
    assert f"holds 3 {'pages' if kind == 'TIFF' else 'frames'}" in finding.message
    assert facts.size_hw == (90, 122)


@pytest.mark.parametrize("is_grey", [True, False])
def test_twelve_bits_in_sixteen_are_nearly_black_and_the_hint_scales_them(write: Write, is_grey: bool) -> None:
    values = np.linspace(0, 4090, 50 * 40, dtype=np.uint16).reshape(40, 50)
    record = write(deep_png(values if is_grey else values[:, :, None].repeat(3, axis=2)))
    (finding,) = inspect_picture(record).findings
    assert finding.code == "sixteen-bit"
    # 4090 // 256 = 15: somewhere from 15 * 256 to 15 * 256 + 255
    assert "the largest is 3,840 to 4,095 of 65,535, so the picture is nearly black" in finding.message
    assert finding.hint == "Set `data.value_range: [0, 4095]`."
    assert read_image(record.image).max() == 15
    assert read_image(record.image, PixelReading(value_range=(0, 4095))).max() == 255


def test_sixteen_bits_that_are_used_are_told_without_alarm(write: Write) -> None:
    values = np.linspace(0, 65535, 50 * 40, dtype=np.uint16).reshape(40, 50)
    (finding,) = inspect_picture(write(deep_png(values))).findings
    assert finding.code == "sixteen-bit"
    assert "65,280 to 65,535" in finding.message
    assert "black" not in finding.message


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_found(write: Write, photo: NDArray[np.uint8], kind: str) -> None:
    facts = inspect_picture(write(encoded(Image.fromarray(photo).convert("CMYK"), kind)))
    assert codes(facts) == ["cmyk"]
    assert facts.findings[0].severity == "warning"


def test_see_through_pixels_are_counted_and_an_opaque_alpha_channel_is_no_matter(
    write: Write, photo: NDArray[np.uint8]
) -> None:
    alpha = np.full((90, 122, 1), 255, dtype=np.uint8)
    dark = photo // 2
    assert codes(inspect_picture(write(encoded(np.concatenate([dark, alpha], axis=2), "PNG")))) == []
    alpha[10:20, 30:37] = 100
    record = write(encoded(np.concatenate([dark, alpha], axis=2), "PNG"))
    (finding,) = inspect_picture(record).findings
    assert (finding.code, finding.details) == ("alpha", {"count": 70})
    assert "70 pixels (0.6%)" in finding.message
    assert codes(inspect_picture(record, PixelReading(bands=(1, 2, 3)))) == []


@pytest.mark.parametrize("kind", ["grey", "palette"])
def test_see_through_greys_and_palettes_are_counted(write: Write, kind: str) -> None:
    values = np.repeat(np.arange(40, dtype=np.uint8)[None], 50, axis=0)
    if kind == "grey":
        image = Image.fromarray(np.stack([values, np.where(values < 3, 0, 255).astype(np.uint8)], axis=2))
        data = encoded(image, "PNG")
    else:
        image = Image.fromarray(values)
        image.putpalette(np.arange(120, dtype=np.uint8).tolist())
        data = encoded(image, "PNG", transparency=bytes([0, 0, 0] + [255] * 37))
    assert inspect_picture(write(data)).findings[0].details == {"count": 150}


@pytest.mark.parametrize(
    ("orientation", "words"), [(3, "turned by 180 degrees"), (6, "turned by 90 degrees to the right")]
)
def test_an_orientation_mark_is_told(write: Write, photo: NDArray[np.uint8], orientation: int, words: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    facts = inspect_picture(write(encoded(photo, "JPEG", exif=exif)))
    (finding,) = facts.findings
    assert finding.code == "exif-rotated"
    assert f"({orientation}): it is {words}" in finding.message
    assert facts.exif_orientation == orientation
    assert facts.size_hw == ((122, 90) if orientation == 6 else (90, 122))


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [(31, 64, "a side below 32"), (400, 36, "11 times as long as wide"), (10_000, 5_001, "50 megapixels")],
)
def test_implausible_sizes_are_told(write: Write, width: int, height: int, words: str) -> None:
    facts = inspect_picture(write(encoded(Image.new("L", (width, height), 128), "PNG")))
    (finding,) = facts.findings
    assert finding.code == "odd-size"
    assert finding.message.startswith(f"is {width} x {height} pixels")
    assert words in finding.message


@pytest.mark.parametrize(("width", "height"), [(32, 32), (320, 32)])
def test_sizes_at_the_border_are_plausible(write: Write, width: int, height: int) -> None:
    assert inspect_picture(write(encoded(Image.new("L", (width, height), 128), "PNG"))).findings == ()


def test_many_pictures_come_in_order_with_those_that_are_broken(tmp_path: Path) -> None:
    records = []
    for number in range(300):
        path = tmp_path / f"{number}.png"
        path.write_bytes(b"" if number == 256 else encoded(Image.new("L", (40, 40), number % 256), "PNG"))
        records.append(Record(str(number), path, None))
    facts = list(inspect_pictures(records, workers=3))
    assert [fact.id for fact in facts] == [record.id for record in records]
    assert [fact.id for fact in facts if fact.findings] == ["256"]
    assert list(inspect_pictures([])) == []
