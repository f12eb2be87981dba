"""Masks with soft edges, noise and strays against the masks they were made from."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pixbox.auditing.mend_masks import MendedMask, mend_mask
from pixbox.data.images import read_mask
from pixbox.labels import IGNORE, LabelMap
from pixbox.sample import Record

# The colour halfway between black and white is a class of its own.
GREYS = LabelMap.model_validate(
    {"classes": [{"name": "ground", "color": "#000000"}, {"name": "road", "color": "#808080"},
                 {"name": "roof", "color": "#ffffff"}]}
)  # fmt: skip
# As in Pascal VOC, the mean of two colours is often that of a third class.
COLORS = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0)]
CLASSES = LabelMap.model_validate(
    {"classes": [{"name": f"c{number}", "color": list(color)} for number, color in enumerate(COLORS)]}
)
INDICES = LabelMap.model_validate({"classes": ["a", "b", "c"], "ignore": [255]})


def mend(path: Path, labels: LabelMap) -> MendedMask:
    return mend_mask(Record("a", path, path), read_mask(path), labels)


def disks(*classes: int, size: int = 128) -> np.ndarray:
    """Disks of these classes, apart from each other, on class 0."""
    image = Image.new("L", (size, size))
    places = [(32, 32), (96, 32), (32, 96), (96, 96)]
    for index, (x, y) in zip(classes, places, strict=False):
        ImageDraw.Draw(image).ellipse((x - 22, y - 22, x + 22, y + 22), fill=index)
    return np.array(image)


def shares(mask: np.ndarray, count: int, factor: int) -> np.ndarray:
    """(count, h, w): how much of every block of ``factor`` x ``factor`` pixels each class covers."""
    blocks = mask.reshape(mask.shape[0] // factor, factor, mask.shape[1] // factor, factor)
    return np.stack([(blocks == index).mean(axis=(1, 3)) for index in range(count)])


def test_a_soft_edge_takes_the_class_that_covers_most_of_the_pixel_and_no_class_between(tmp_path: Path) -> None:
    covered = shares(disks(2, 2, size=512), 3, 4)
    soft = np.rint(covered[2] * 255).astype(np.uint8)
    Image.fromarray(np.repeat(soft[:, :, None], 3, axis=2)).save(tmp_path / "m.png")
    assert (np.abs(soft.astype(int) - 128) < 20).any()
    mended = mend(tmp_path / "m.png", GREYS)
    assert set(np.unique(mended.classes)) == {0, 2}
    clear = np.abs(covered[2] - 0.5) > 0.01
    np.testing.assert_array_equal(mended.classes[clear], np.where(covered[2] > 0.5, 2, 0)[clear])
    mixed = (soft != 0) & (soft != 255)
    assert (mended.decided, mended.undecided) == (mixed.sum(), 0)


@pytest.mark.parametrize(("quality", "wrong"), [(75, 0.01), (95, 0.002)])
def test_compression_makes_no_class_that_was_not_there(quality: int, wrong: float, tmp_path: Path) -> None:
    truth = disks(1, 5, 7, 2)
    colors = np.array(COLORS, dtype=np.uint8)
    Image.fromarray(colors[truth]).save(tmp_path / "m.jpg", quality=quality)
    mended = mend(tmp_path / "m.jpg", CLASSES)
    assert set(np.unique(mended.classes)) == {0, 1, 2, 5, 7}
    assert (mended.classes != truth).mean() <= wrong
    noisy = np.asarray(Image.open(tmp_path / "m.jpg").convert("RGB")).astype(int)
    nearest = ((noisy[:, :, None] - colors.astype(int)) ** 2).sum(axis=3).argmin(axis=2)
    assert (mended.classes != truth).sum() < (nearest != truth).sum()


def test_a_speck_takes_what_lies_around_it_and_a_patch_is_ignored_to_its_rim(tmp_path: Path) -> None:
    truth = np.zeros((60, 60), dtype=np.uint8)
    truth[:, 30:] = 2
    spoiled = truth.copy()
    spoiled[5:7, 5:7] = 77
    spoiled[40, 45] = 9
    spoiled[15:35, 8:28] = 78
    Image.fromarray(spoiled).save(tmp_path / "m.png")
    mended = mend(tmp_path / "m.png", INDICES)
    truth[15:35, 8:28] = IGNORE
    np.testing.assert_array_equal(mended.classes, truth)
    assert (mended.loose, mended.decided, mended.undecided) == (3, 5, 400)


def test_a_stray_index_takes_the_class_nearest_in_place_not_in_number(tmp_path: Path) -> None:
    spoiled = np.zeros((20, 20), dtype=np.uint8)
    spoiled[:, 10:] = 2
    spoiled[4:6, 7] = 3  # Three pixels from class 2, whose number is nearer.
    image = Image.fromarray(spoiled, mode="P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 254, 0])
    image.save(tmp_path / "m.png")
    assert (mend(tmp_path / "m.png", INDICES).classes[4:6, 7] == 0).all()


def test_what_the_label_map_says_of_unknown_values_stands(tmp_path: Path) -> None:
    spoiled = np.zeros((20, 20), dtype=np.uint8)
    spoiled[4:6, 7] = 9
    Image.fromarray(spoiled).save(tmp_path / "m.png")
    for unknown, index in (("ignore", IGNORE), ("b", 1)):
        mended = mend(tmp_path / "m.png", INDICES.model_copy(update={"unknown": unknown}))
        assert (mended.classes[4:6, 7] == index).all()
        assert (mended.decided, mended.undecided) == (0, 0)
    near = INDICES.model_copy(update={"tolerance": 7})
    assert (mend(tmp_path / "m.png", near).classes[4:6, 7] == 2).all()


def test_a_clean_mask_is_as_the_label_map_reads_it(tmp_path: Path) -> None:
    truth = np.random.default_rng(0).integers(0, 3, (30, 40)).astype(np.uint8)
    truth[3, 4] = 255
    buffer = io.BytesIO()
    Image.fromarray(truth).save(buffer, "PNG")
    (tmp_path / "m.png").write_bytes(buffer.getvalue())
    mended = mend(tmp_path / "m.png", INDICES)
    np.testing.assert_array_equal(mended.classes, truth)
    assert (mended.loose, mended.decided, mended.undecided) == (0, 0, 0)


def test_a_mask_without_a_known_value_is_ignored_wholly(tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 9), 40, dtype=np.uint8)).save(tmp_path / "m.png")
    mended = mend(tmp_path / "m.png", INDICES)
    assert (mended.classes == IGNORE).all()
    assert (mended.decided, mended.undecided) == (0, 81)
