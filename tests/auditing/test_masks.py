from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixbox.auditing.masks import MaskCheck, check_mask
from pixbox.data.images import read_mask
from pixbox.data.mask_facts import mask_facts
from pixbox.labels import LabelMap, RawMask
from pixbox.sample import Record

VALUES = LabelMap.model_validate(
    {"classes": [{"name": "ground", "value": 0}, {"name": "car", "value": 100}, {"name": "tree", "value": 200}],
     "ignore": [255]}
)  # fmt: skip
COLORS = LabelMap.model_validate(
    {"classes": [{"name": "ground", "color": "#000000"}, {"name": "car", "color": "#ff0000"},
                 {"name": "tree", "color": "#00ff00"}], "ignore": ["#ffffff"]}
)  # fmt: skip
PALETTE = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)


def blobs(size: int = 64) -> NDArray[np.uint8]:
    """Classes 0, 1 and 2: a disk and a box on ground."""
    y, x = np.mgrid[:size, :size] * 64 / size
    classes = np.zeros((size, size), np.uint8)
    classes[(y - 20) ** 2 + (x - 22) ** 2 < 200] = 1
    classes[(y > 34) & (y < 58) & (x > 30) & (x < 57)] = 2
    return classes


def look(file: Path, labels: LabelMap, image_hw: tuple[int, int] | None = None) -> MaskCheck:
    record = Record("photos/m", file.with_name("photo.jpg"), file)
    return check_mask(record, mask_facts(read_mask(file)), labels, image_hw)


def check(folder: Path, image: Image.Image, labels: LabelMap, image_hw: tuple[int, int] | None = None) -> MaskCheck:
    image.save(folder / "m.png")
    return look(folder / "m.png", labels, image_hw)


def codes(found: MaskCheck) -> list[str]:
    return [finding.code for finding in found.findings]


def only(found: MaskCheck, code: str) -> tuple[str, str, dict[str, Any]]:
    """Message, hint and details of the single finding, which has this code."""
    (finding,) = found.findings
    assert (finding.code, finding.id) == (code, "photos/m")
    return finding.message, finding.hint, finding.details


def test_counts_are_those_of_a_hand_example_and_nothing_is_said_of_a_good_mask(tmp_path: Path) -> None:
    mask = np.array([[0, 0, 100, 255], [200, 200, 200, 255]], np.uint8)
    found = check(tmp_path, Image.fromarray(mask), VALUES, (2, 4))
    assert (found.counts.tolist(), found.ignored, found.findings) == ([2, 1, 3], 2, ())
    assert found.counts.dtype == np.int64
    colors = np.array([[(0, 0, 0), (255, 0, 0)], [(255, 255, 255), (255, 0, 0)]], np.uint8)
    found = check(tmp_path, Image.fromarray(colors), COLORS, (2, 2))
    assert (found.counts.tolist(), found.ignored, found.findings) == ([1, 2, 0], 1, ())


def test_a_good_mask_is_not_opened(tmp_path: Path) -> None:
    facts = mask_facts(RawMask((blobs() * 100).astype(np.uint8)))
    found = check_mask(Record("a", tmp_path / "gone.jpg", tmp_path / "gone.png"), facts, VALUES, (64, 64))
    assert found.findings == ()
    assert found.counts.tolist() == np.bincount(blobs().ravel()).tolist()


def test_an_unknown_value_is_told_with_place_count_and_what_is_nearest(tmp_path: Path) -> None:
    mask = (blobs() * 100).astype(np.uint8)
    mask[3, 40:52] = 90
    message, hint, details = only(check(tmp_path, Image.fromarray(mask), VALUES), "unknown-value")
    assert message.startswith("value 90 (12 pixels at row 3, column 40), nearest: car (value 100), distance 10")
    assert "`ignore`" in hint
    assert details == {"value": 90, "count": 12, "row": 3, "column": 40, "nearest": "car", "distance": 10.0,
                       "values": [90], "pixels": 12}  # fmt: skip


def test_an_unknown_colour_is_told_likewise_and_known_pixels_are_counted(tmp_path: Path) -> None:
    mask = PALETTE[blobs()]
    mask[5, 60] = mask[6, 1:4] = (240, 10, 10)
    found = check(tmp_path, Image.fromarray(mask), COLORS)
    message, _, details = only(found, "unknown-value")
    assert "colour #f00a0a (4 pixels at row 5, column 60), nearest: car (colour #ff0000), distance 21" in message
    assert details["value"] == "#f00a0a"
    assert found.counts.sum() == 64 * 64 - 4
    assert found.counts[1] == (blobs() == 1).sum()


def test_several_unknown_values_are_one_finding_that_names_the_most_frequent(tmp_path: Path) -> None:
    mask = (blobs() * 100).astype(np.uint8)
    mask[0, 0], mask[1, 1:6], mask[2, 2:4] = 31, 77, 160
    message, _, details = only(check(tmp_path, Image.fromarray(mask), VALUES), "unknown-value")
    assert message.startswith("value 77 (5 pixels at row 1, column 1) and 2 more (8 pixels in all)")
    assert details["values"] == [77, 160, 31]


@pytest.mark.parametrize("unknown", ["ignore", "ground"])
def test_unknown_values_are_no_error_where_the_label_map_says_what_they_become(tmp_path: Path, unknown: str) -> None:
    mask = (blobs() * 100).astype(np.uint8)
    mask[0, :5] = 31
    found = check(tmp_path, Image.fromarray(mask), VALUES.model_copy(update={"unknown": unknown}))
    assert found.findings == ()
    ground = int((blobs() == 0).sum())
    assert (found.counts[0], found.ignored) == ((ground - 5, 5) if unknown == "ignore" else (ground, 0))


@pytest.mark.parametrize("table", [np.array([0, 100, 200], np.uint8), PALETTE])
@pytest.mark.parametrize("size", [48, 100])
def test_a_smooth_resize_is_told_as_soft_edges(tmp_path: Path, table: NDArray[np.uint8], size: int) -> None:
    resized = Image.fromarray(table[blobs()]).resize((size, size), Image.Resampling.BILINEAR)
    labels = VALUES if table.ndim == 1 else COLORS
    message, hint, details = only(check(tmp_path, resized, labels), "soft-edges")
    pixels = np.asarray(resized).reshape(size * size, -1)
    mixed = ~(pixels[:, None] == table.reshape(1, 3, -1)).all(axis=2).any(axis=1)
    assert details["count"] == mixed.sum()
    assert f"{mixed.mean():.1%} of the pixels" in message
    assert "antialiasing" in message
    assert "nearest-neighbour" in hint
    value = details["value"]
    wanted = [value] if isinstance(value, int) else list(bytes.fromhex(value[1:]))
    assert pixels[details["row"] * size + details["column"]].tolist() == wanted


def test_strays_inside_a_region_are_no_soft_edges(tmp_path: Path) -> None:
    mask = (blobs() * 100).astype(np.uint8)
    for place, value in enumerate((40, 50, 60, 140, 150)):
        mask[2 + 2 * place, 50:54] = value
    assert codes(check(tmp_path, Image.fromarray(mask), VALUES)) == ["unknown-value"]


@pytest.mark.parametrize("name", ["m.jpg", "m.png"])
@pytest.mark.parametrize("labels", [VALUES, COLORS])
def test_traces_of_jpeg_are_told_and_the_hint_mends_them(tmp_path: Path, name: str, labels: LabelMap) -> None:
    classes, file = blobs(256), tmp_path / name
    table = np.array([0, 100, 200], np.uint8) if labels is VALUES else PALETTE
    Image.fromarray(table[classes]).save(tmp_path / "m.jpg", quality=90)
    if name == "m.png":
        Image.open(tmp_path / "m.jpg").save(file)
    message, hint, _ = only(look(file, labels), "unknown-value")
    assert "saving with loss (JPEG)" in message
    tolerance = int(re.findall(r"`tolerance: (\d+)`", hint)[0])
    unknown = "ignore" if "`unknown: ignore`" in hint else "error"
    mended = labels.model_copy(update={"tolerance": tolerance, "unknown": unknown})
    found = look(file, mended)
    _, _, details = only(found, "lossy-mask")
    assert found.findings[0].severity == "warning"
    assert details["count"] > 0
    read = mended.encode(read_mask(file))
    assert (read == classes).mean() > 0.97
    assert found.counts.tolist() == np.bincount(read[read < 3], minlength=3).tolist()
    assert found.ignored == (read == 255).sum()


def test_a_colour_mask_under_a_label_map_of_values_is_told(tmp_path: Path) -> None:
    found = check(tmp_path, Image.fromarray(PALETTE[blobs()]), VALUES)
    message, hint, _ = only(found, "unknown-value")
    assert "colour picture" in message
    assert "`color`" in hint
    assert (found.counts.sum(), found.ignored) == (0, 0)


def test_palette_files_are_read_by_index_or_by_colour(tmp_path: Path) -> None:
    image = Image.fromarray(blobs())
    image.putpalette(PALETTE.ravel().tolist())
    indices = LabelMap.model_validate({"classes": ["ground", "car", "tree"]})
    expected = np.bincount(blobs().ravel()).tolist()
    for labels in (indices, COLORS):
        assert check(tmp_path, image, labels).counts.tolist() == expected
    two = LabelMap.model_validate(
        {"classes": [{"name": "ground", "color": "#000000"}, {"name": "car", "color": "#f00000"}]}
    )
    message, _, details = only(check(tmp_path, image, two), "unknown-value")
    assert details["values"] == ["#ff0000", "#00ff00"] or details["values"] == ["#00ff00", "#ff0000"]
    assert message.startswith("colour ")


@pytest.mark.parametrize(
    ("image_hw", "expected"),
    [
        ((64, 64), []),
        ((128, 128), ["mask-resized"]),
        ((32, 32), ["mask-resized"]),
        ((64, 80), ["mask-size"]),
        (None, []),
    ],
)
def test_a_mask_of_another_size_is_resized_or_refused(
    tmp_path: Path, image_hw: tuple[int, int] | None, expected: Sequence[str]
) -> None:
    found = check(tmp_path, Image.fromarray((blobs() * 100).astype(np.uint8)), VALUES, image_hw)
    assert codes(found) == expected
    if expected and image_hw:
        assert f"64 x 64 pixels, its picture {tmp_path / 'photo.jpg'} is {image_hw[1]} x {image_hw[0]}" in (
            found.findings[0].message
        )


def test_a_mask_of_nothing_but_background_is_a_warning(tmp_path: Path) -> None:
    empty = np.zeros((9, 9), np.uint8)
    assert only(check(tmp_path, Image.fromarray(empty), VALUES), "empty-mask")[0] == 'nothing but "ground"'
    assert only(check(tmp_path, Image.fromarray(PALETTE[empty]), COLORS), "empty-mask")[0] == 'nothing but "ground"'
    partly_ignored = empty.copy()
    partly_ignored[0] = 255
    assert codes(check(tmp_path, Image.fromarray(partly_ignored), VALUES)) == ["empty-mask"]
    # A mask full of anything else says something, and with one class there is nothing else to say.
    assert codes(check(tmp_path, Image.fromarray(empty + np.uint8(100)), VALUES)) == []
    one = LabelMap.model_validate({"classes": ["ground"]})
    assert codes(check(tmp_path, Image.fromarray(empty), one)) == []


def test_a_mask_of_which_every_pixel_is_ignored_is_a_warning(tmp_path: Path) -> None:
    found = check(tmp_path, Image.fromarray(np.full((9, 9), 255, np.uint8)), VALUES)
    assert codes(found) == ["ignored-mask"]
    assert (found.counts.tolist(), found.ignored) == ([0, 0, 0], 81)


def test_a_mask_that_knows_no_value_has_no_counts(tmp_path: Path) -> None:
    found = check(tmp_path, Image.fromarray(np.full((9, 9), 7, np.uint8)), VALUES)
    assert codes(found) == ["unknown-value"]
    assert (found.counts.tolist(), found.ignored) == ([0, 0, 0], 0)
