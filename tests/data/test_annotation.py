"""Painting is compared with pycocotools, the reference for COCO's rule; the rest is worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as reference
from pycocotools.coco import COCO

from pixbox.data.annotation import (
    paint,
    pixel_bounds,
    read_classes,
    region_files,
    region_pixels,
    run_lengths,
    to_boxes,
    to_run_lengths,
)
from pixbox.errors import DataError
from pixbox.labels import IGNORE, LabelMap
from pixbox.sample import Boxes, MapSegment, Record, RunLengths, Shape, Shapes

FILE = Path("objects.json")
NAN = float("nan")
LABELS = LabelMap(classes=("background", "cat", "dog"), ignore_names=("unclear",))


def outline(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, dtype=np.float64)


def shape(label: str = "cat", box: tuple[float, ...] = (0, 0, 1, 1), region: Any = None, **more: Any) -> Shape:
    return Shape(label, (box[0], box[1], box[2], box[3]), region, **more)


def shapes(*items: Shape, size_hw: tuple[int, int] | None = None) -> Shapes:
    return Shapes(items, FILE, size_hw)


def reference_pixels(segmentation: Any, size_hw: tuple[int, int]) -> np.ndarray:
    """What pycocotools' own loader makes of an annotation."""
    coco = COCO()
    coco.imgs = {1: {"id": 1, "height": size_hw[0], "width": size_hw[1]}}
    return coco.annToMask({"image_id": 1, "segmentation": segmentation}).astype(bool)


def reference_code(pixels: np.ndarray) -> RunLengths:
    code = reference.encode(np.asfortranarray(pixels, dtype=np.uint8))
    return RunLengths((code["size"][0], code["size"][1]), code["counts"])


def some_pixels(seed: int, size_hw: tuple[int, int] = (23, 31)) -> np.ndarray:
    """Blobs, so that there are long and short runs."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((size_hw[0] // 4 + 1, size_hw[1] // 4 + 1)) < 0.4
    return np.kron(coarse, np.ones((4, 4), dtype=bool))[: size_hw[0], : size_hw[1]] ^ (rng.random(size_hw) < 0.05)


@pytest.mark.parametrize("seed", range(40))
def test_outlines_are_filled_as_pycocotools_fills_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size_hw = int(rng.integers(1, 60)), int(rng.integers(1, 60))
    # Also far outside, in fractions of which some are exact ties of the rule, and with several outlines.
    span = max(size_hw)
    rings = [rng.uniform(-span, 2 * span, (int(rng.integers(3, 12)), 2)) for _ in range(int(rng.integers(1, 4)))]
    rings = [np.round(ring, int(rng.integers(0, 3))) if seed % 2 else ring for ring in rings]
    expected = reference_pixels([ring.ravel().tolist() for ring in rings], size_hw)
    np.testing.assert_array_equal(region_pixels(shape(region=tuple(rings)), size_hw), expected)


@pytest.mark.parametrize("seed", range(40))
def test_small_outlines_in_a_large_picture_are_filled_as_pycocotools_fills_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size_hw = (300, 400)
    center = rng.uniform(-5, (405, 305))
    ring = np.round(center + rng.uniform(-9, 9, (int(rng.integers(3, 9)), 2)), 1)
    expected = reference_pixels([ring.ravel().tolist()], size_hw)
    np.testing.assert_array_equal(region_pixels(shape(region=(ring,)), size_hw), expected)


def test_the_union_of_several_outlines_counts() -> None:
    # Two squares of 3 x 3 that share one pixel: 9 + 9 - 1.
    squares = (outline((0, 0), (3, 0), (3, 3), (0, 3)), outline((2, 2), (5, 2), (5, 5), (2, 5)))
    assert region_pixels(shape(region=squares), (6, 6)).sum() == 17


@pytest.mark.parametrize("seed", range(10))
def test_run_lengths_are_read_as_pycocotools_reads_them(seed: int) -> None:
    pixels = some_pixels(seed) if seed else np.zeros((5, 4), dtype=bool)
    size_hw = pixels.shape[0], pixels.shape[1]
    packed = reference_code(pixels)
    np.testing.assert_array_equal(region_pixels(shape(region=packed), size_hw), pixels)
    # Uncompressed, as they stand in crowds: counted here by hand, column by column.
    flat = pixels.T.ravel()
    ends = [*(np.flatnonzero(np.diff(flat)) + 1), len(flat)]
    counts = ([0] if flat[0] else []) + np.diff([0, *ends]).tolist()
    assert run_lengths(packed).tolist() == counts
    plain = RunLengths(size_hw, tuple(counts))
    expected = reference_pixels({"size": list(size_hw), "counts": counts}, size_hw)
    np.testing.assert_array_equal(region_pixels(shape(region=plain), size_hw), expected)
    assert to_run_lengths(pixels) == packed


def test_long_runs_are_read() -> None:
    pixels = np.zeros((3000, 4000), dtype=bool)
    pixels[5, 2999] = pixels[2000:, 3000:3500] = True
    np.testing.assert_array_equal(region_pixels(shape(region=reference_code(pixels)), (3000, 4000)), pixels)


@pytest.mark.parametrize(
    "counts", [(5, 3), (5, 5), (-1, 10), (), b"", b"\xff", b"P", b"0000", b"ooooooooooooooooooooo0", b"52", b"5 4"]
)
def test_run_lengths_that_do_not_cover_the_picture_are_refused(counts: Any) -> None:
    with pytest.raises(DataError, match="run lengths") as error:
        region_pixels(shape(region=RunLengths((3, 3), counts), where="a.json: annotation 7"), (3, 3))
    assert error.value.faults[0].where == "a.json: annotation 7"
    assert error.value.faults[0].code == "bad-annotation"


def test_run_lengths_of_an_absurd_picture_are_refused() -> None:
    with pytest.raises(DataError, match="too large"):
        region_pixels(shape(region=RunLengths((1 << 20, 1 << 20), (1 << 40,))), (8, 8))


def test_an_outline_that_reaches_absurdly_far_is_refused() -> None:
    far = outline((0, 0), (1e9, 0), (0, 5))
    with pytest.raises(DataError, match=r"an outline 2,000,000,005 pixels long in a picture of 8 x 6"):
        region_pixels(shape(region=(far,)), (6, 8))


def test_outlines_that_enclose_nothing_have_no_pixels() -> None:
    for ring in (outline((1, 1), (4, 4)), outline((1, 1), (NAN, 1), (4, 4)), outline((-9, -9), (-5, -9), (-5, -5))):
        assert not region_pixels(shape(region=(ring,)), (6, 6)).any()


def test_a_box_alone_is_filled() -> None:
    # Columns 1-3 and rows 2-3, by their centres.
    pixels = region_pixels(shape(box=(1, 2, 4, 4)), (6, 6))
    assert pixels.sum() == 6
    assert pixels[2:4, 1:4].all()
    assert region_pixels(shape(box=(-1e30, -5, 2, 1e30)), (6, 6))[:, :2].all()
    assert not region_pixels(shape(box=(NAN, 0, 4, 4)), (6, 6)).any()


def test_later_objects_lie_over_earlier_ones() -> None:
    painted = paint(shapes(shape("cat", (0, 0, 4, 1)), shape("dog", (2, 0, 6, 1))), (1, 8), LABELS)
    assert painted.tolist() == [[1, 1, 2, 2, 2, 2, 0, 0]]


def test_crowds_and_ignored_names_are_ignored() -> None:
    painted = paint(shapes(shape("cat", (0, 0, 2, 1), crowd=True), shape("unclear", (3, 0, 4, 1))), (1, 5), LABELS)
    assert painted.tolist() == [[IGNORE, IGNORE, 0, IGNORE, 0]]


def test_what_no_object_covers_is_the_class_of_value_0_or_ignored() -> None:
    apart = LabelMap.model_validate({"classes": [{"name": "cat", "value": 1}, {"name": "ground", "value": 0}]})
    assert paint(shapes(shape("cat", (0, 0, 1, 1))), (1, 2), apart).tolist() == [[0, 1]]
    without = LabelMap.model_validate({"classes": [{"name": "cat", "value": 1}]})
    assert paint(shapes(shape("cat", (0, 0, 1, 1))), (1, 2), without).tolist() == [[0, IGNORE]]


def test_unknown_names_are_all_named_once_with_their_nearest() -> None:
    many = shapes(shape("cta", where="objects.json: annotation 3"), shape("cta"), shape("bird"), shape("cat"))
    for use in (paint, to_boxes):
        with pytest.raises(DataError) as error:
            use(many, (4, 4), LABELS)
        bird, typo = error.value.faults
        assert (bird.where, bird.code) == ("objects.json", "unknown-class")
        assert typo.where == "objects.json: annotation 3"
        assert 'class "cta" (2 objects)' in typo.what
        assert 'Did you mean "cat"?' in typo.hint


def test_coordinates_of_a_smaller_copy_of_the_picture_are_scaled() -> None:
    # Annotated at 4 x 2, the picture is 8 x 4: everything is twice as large.
    half = shapes(shape("cat", (1, 0, 3, 1), (outline((1, 0), (3, 0), (3, 1), (1, 1)),)), size_hw=(2, 4))
    painted = paint(half, (4, 8), LABELS)
    assert painted[:2, 2:6].all()
    assert (painted != 0).sum() == 8
    assert to_boxes(half, (4, 8), LABELS).xyxy.tolist() == [[2, 0, 6, 2]]
    box = shapes(shape("cat", (1, 0, 3, 1)), size_hw=(2, 4))
    np.testing.assert_array_equal(paint(box, (4, 8), LABELS), painted)
    code = to_run_lengths(np.array([[0, 1, 1, 0], [0, 0, 0, 0]]))
    np.testing.assert_array_equal(paint(shapes(shape("cat", region=code)), (4, 8), LABELS), painted)


def test_coordinates_are_taken_as_they_are_where_the_stated_size_is_another_shape() -> None:
    turned = shapes(shape("cat", (1, 0, 3, 1)), size_hw=(8, 4))
    assert to_boxes(turned, (4, 8), LABELS).xyxy.tolist() == [[1, 0, 3, 1]]
    assert to_boxes(shapes(shape("cat", (1, 0, 3, 1)), size_hw=(0, 0)), (4, 8), LABELS).xyxy.tolist() == [[1, 0, 3, 1]]


def test_run_lengths_of_another_shape_than_the_picture_are_an_error() -> None:
    code = to_run_lengths(np.ones((4, 2)))
    with pytest.raises(DataError, match="the mask is 2 x 4 pixels, its picture is 6 x 3") as error:
        paint(shapes(shape("cat", region=code, where="a.json: annotation 1")), (3, 6), LABELS)
    assert str(error.value).startswith("a.json: annotation 1: ")
    assert error.value.faults[0].code == "mask-size"


def test_boxes_are_clipped_and_those_that_are_none_left_out() -> None:
    boxes = to_boxes(
        shapes(
            shape("dog", (-3, 1, 4, 99)),
            shape("cat", (2, 2, 2, 5)),  # empty
            shape("cat", (5, 5, 1, 1)),  # inverted
            shape("cat", (20, 0, 30, 5)),  # outside
            *(shape("cat", tuple(np.where(np.arange(4) == side, wrong, (1, 1, 3, 3))))
              for side in range(4) for wrong in (NAN, float("inf"), float("-inf"))),
            shape("cat", (1, 1, 3, 3), difficult=True),
            shape("unclear", (0, 0, 1, 1)),
            shape("dog", (0, 0, 2, 2), crowd=True),
        ),
        (6, 8),
        LABELS,
    )  # fmt: skip
    assert isinstance(boxes, Boxes)
    # What has an ignored name may be found as any of the three classes.
    assert boxes.xyxy.tolist() == [[0, 1, 4, 6], [1, 1, 3, 3], *[[0, 0, 1, 1]] * 3, [0, 0, 2, 2]]
    assert boxes.classes.tolist()[:2] == [2, 1]
    assert boxes.difficult.tolist() == [False, *[True] * 5]
    assert boxes.crowd.tolist() == [*[False] * 5, True]
    assert to_boxes(shapes(), (6, 8), LABELS).xyxy.shape == (0, 4)


def test_a_mask_file_is_an_object_where_it_is_not_zero(tmp_path) -> None:
    grey, color = tmp_path / "grey.png", tmp_path / "color.png"
    Image.fromarray(np.array([[0, 255, 7, 0]], dtype=np.uint8)).save(grey)
    Image.fromarray(np.array([[[0, 0, 0], [0, 0, 9], [0, 0, 0], [255, 255, 255]]], dtype=np.uint8)).save(color)
    both = shapes(shape("cat", region=grey), shape("dog", region=color))
    assert paint(both, (1, 4), LABELS).tolist() == [[0, 2, 1, 2]]
    # Nearest neighbour to twice the size.
    assert paint(shapes(shape("cat", region=grey)), (2, 8), LABELS)[1].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    assert region_files(both) == [grey, color]


def test_a_segment_of_a_panoptic_map_has_its_number_as_colour(tmp_path) -> None:
    path = tmp_path / "map.png"
    numbers = np.array([[0, 1, 256, 65536, 65536 * 3 + 256 * 2 + 1]])
    colors = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=2).astype(np.uint8)
    Image.fromarray(colors).save(path)
    segments = [MapSegment(path, int(number)) for number in numbers[0, 1:]]
    items = [shape("dog" if index % 2 else "cat", region=segment) for index, segment in enumerate(segments)]
    assert paint(shapes(*items), (1, 5), LABELS).tolist() == [[0, 1, 2, 1, 2]]
    assert region_files(shapes(*items)) == [path]
    grey = tmp_path / "grey.png"
    Image.new("L", (5, 1)).save(grey)
    with pytest.raises(DataError, match="is not RGB"):
        region_pixels(shape(region=MapSegment(grey, 1)), (1, 5))


def test_bounds_hold_the_last_pixel() -> None:
    pixels = np.zeros((6, 9), dtype=bool)
    assert pixel_bounds(pixels) is None
    pixels[2, 3] = pixels[4, 7] = True
    assert pixel_bounds(pixels) == (3, 2, 8, 5)


def test_a_record_gives_the_classes_of_its_annotation(tmp_path) -> None:
    picture = tmp_path / "a.png"
    drawn = Record("a", picture, shapes(shape("dog", (0, 0, 1, 1))))
    assert read_classes(drawn, LABELS, (1, 2)).tolist() == [[2, 0]]
    mask = tmp_path / "mask.png"
    Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8)).save(mask)
    assert read_classes(Record("a", picture, mask), LABELS, (2, 6)).tolist() == [[0, 0, 1, 1, 2, 2]] * 2
    with pytest.raises(DataError, match=rf"mask\.png: the mask is 3 x 1 pixels, its picture {picture} is 3 x 3"):
        read_classes(Record("a", picture, mask), LABELS, (3, 3))
    with pytest.raises(DataError, match="has no mask"):
        read_classes(Record("a", picture, "cats"), LABELS, (3, 3))
