from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixbox.augment import (
    FILL,
    GeometryPolicy,
    Warp,
    draw_geometry,
    place_whole,
    sample_rng,
    warp_boxes,
    warp_image,
    warp_mask,
)
from pixbox.labels import IGNORE
from pixbox.sample import Boxes

EVERYTHING = GeometryPolicy((70, 90), scale=(0.2, 2.5), rotate=180, shear=25, flip=0.5, flip_vertical=0.5)


def source_points(warp: Warp) -> NDArray[np.float64]:
    """(H, W, 2) source (x, y) under the centre of each output pixel."""
    ys, xs = np.mgrid[: warp.size_hw[0], : warp.size_hw[1]] + 0.5
    inverse = np.linalg.inv(np.vstack([warp.matrix, [0, 0, 1]]))
    points: NDArray[np.float64] = (np.stack([xs, ys, np.ones_like(xs)], axis=-1) @ inverse.T)[:, :, :2]
    return points


def nearest(classes: NDArray[np.uint8], warp: Warp) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The mask by definition, and where float32 cannot tell two pixels apart."""
    points = source_points(warp)
    pixels = np.floor(points).astype(int)
    inside = ((pixels >= 0) & (pixels < classes.shape[::-1])).all(axis=-1)
    out = np.full(warp.size_hw, IGNORE, dtype=np.uint8)
    out[inside] = classes[pixels[inside][:, 1], pixels[inside][:, 0]]
    return out, (np.abs(points - np.rint(points)) < 1e-3).any(axis=-1)


def rms(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean((a.astype(float) - b.astype(float)) ** 2)))


def test_identity_returns_the_picture_itself(photo: NDArray[np.uint8]) -> None:
    warp = Warp(np.eye(3)[:2], (180, 240))
    assert warp_image(photo, warp) is photo
    mask = photo[:, :, 0].copy()
    assert warp_mask(mask, warp) is mask


@pytest.mark.parametrize("sign_x", [1, -1])
@pytest.mark.parametrize("sign_y", [1, -1])
def test_whole_pixel_shifts_crops_and_mirrors_are_exact_copies(sign_x: int, sign_y: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    mask = rng.integers(0, 20, (7, 9), dtype=np.uint8)
    for x, y in rng.integers(-14, 14, (200, 2)):
        warp = Warp(np.array([[sign_x, 0, x], [0, sign_y, y]], dtype=float), (6, 8))
        points = np.floor(source_points(warp)).astype(int)
        expected, _ = nearest(mask, warp)
        np.testing.assert_array_equal(warp_mask(mask, warp), expected)
        inside = expected != IGNORE
        picture = np.full((6, 8, 3), FILL, dtype=np.uint8)
        picture[inside] = image[points[inside][:, 1], points[inside][:, 0]]
        out = warp_image(image, warp)
        np.testing.assert_array_equal(out, picture)
        assert out.flags.c_contiguous


def test_masks_are_nearest_to_the_exact_point_and_invent_nothing() -> None:
    rng = np.random.default_rng(1)
    for index in range(60):
        height, width = (int(side) for side in rng.integers(3, 160, 2))
        mask = rng.choice(np.array([3, 50, 120, 253], dtype=np.uint8), (height, width))
        warp = draw_geometry(sample_rng(0, 0, index), (height, width), EVERYTHING)
        expected, tie = nearest(mask, warp)
        out = warp_mask(mask, warp)
        np.testing.assert_array_equal(out[~tie], expected[~tie])
        assert set(np.unique(out)) <= {3, 50, 120, 253, IGNORE}


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_resized_masks_are_nearest_without_opencvs_offset(fit: Any) -> None:
    rng = np.random.default_rng(2)
    for image_hw in ((31, 47), (200, 9), (130, 260)):
        mask = rng.integers(0, 20, image_hw, dtype=np.uint8)
        warp, _ = place_whole(image_hw, (50, 64), fit)
        assert warp is not None
        expected, tie = nearest(mask, warp)
        np.testing.assert_array_equal(warp_mask(mask, warp)[~tie], expected[~tie])


def _ramps(image_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Red is 20 + 2x and green 20 + 2y; blue falls with x from 240. Steps of two halve without rounding."""
    ramp = np.zeros((*image_hw, 3), dtype=np.uint8)
    ramp[:, :, 0] = 20 + 2 * np.arange(image_hw[1])
    ramp[:, :, 1] = 20 + 2 * np.arange(image_hw[0])[:, None]
    ramp[:, :, 2] = 240 - 2 * np.arange(image_hw[1])
    return ramp


@pytest.mark.parametrize("upright", [False, True])
def test_colours_lie_where_the_matrix_says_to_a_fraction_of_a_pixel(upright: bool) -> None:
    policy = EVERYTHING
    if upright:
        policy = GeometryPolicy((70, 90), scale=(0.2, 2.5), flip=0.5, flip_vertical=0.5)
    shifts = []
    for index in range(60):
        image_hw = (100 + index % 7, 105 + index % 5)
        warp = draw_geometry(sample_rng(0, 1, index), image_hw, policy)
        points = source_points(warp)
        scale = np.sqrt(abs(np.linalg.det(warp.matrix[:, :2])))
        margin = 3 + 3 / min(scale, 1)
        deep = ((points > margin) & (points < np.array(image_hw[::-1]) - margin)).all(axis=-1)
        if not deep.any():
            continue
        red, green, blue = warp_image(_ramps(image_hw), warp)[deep].astype(float).T
        # Pixel i has its value at its centre, i + 0.5. Rounding twice is one level: half a source pixel.
        x, y = points[deep].T
        assert np.abs(red - (19 + 2 * x)).max() <= 1.01
        assert np.abs(green - (19 + 2 * y)).max() <= 1.01
        shifts.append(np.mean((red - (19 + 2 * x)) - (blue - (241 - 2 * x))) / 4)
    assert len(shifts) > 40
    # Rounding evens out, a shift of the picture would stay.
    assert abs(np.mean(shifts)) < 0.02


def test_picture_and_mask_stay_aligned_in_every_path() -> None:
    rng = np.random.default_rng(3)
    colors = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0]], dtype=np.uint8)
    coarse = cv2.GaussianBlur(rng.normal(0, 1, (161, 203, 4)), (0, 0), 9)
    classes = coarse.argmax(axis=-1).astype(np.uint8)
    policies = [EVERYTHING, GeometryPolicy((70, 90), "pad", scale=(0.5, 2.0)), GeometryPolicy((70, 90), "stretch"),
                GeometryPolicy((70, 90)), GeometryPolicy((70, 90), base_size=120, rotate=10)]  # fmt: skip
    compared = 0
    for policy in policies:
        for index in range(20):
            warp = draw_geometry(sample_rng(0, 2, index), classes.shape, policy)
            mask = warp_mask(classes, warp)
            image = warp_image(colors[classes], warp).astype(int)
            seen = np.abs(image[:, :, None] - colors.astype(int)).sum(axis=-1).argmin(axis=-1)
            # One label within a pixel's reach on all sides: away from edges.
            reach = np.ones((3, 3), np.uint8)
            flat = (cv2.erode(mask, reach) == cv2.dilate(mask, reach)) & (mask != IGNORE)
            np.testing.assert_array_equal(seen[flat], mask[flat])
            compared += int(flat.sum())
    assert compared > 100_000


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.55, 0.7, 0.8])
def test_shrinking_with_rotation_aliases_less_than_a_plain_warp(
    scale: float, photo: NDArray[np.uint8], rotation: Callable[..., NDArray[np.float64]]
) -> None:
    matrix = rotation(scale, 7, (180, 240), (100, 120))
    fine = Warp(matrix * 8, (800, 960))
    centred = fine.matrix + np.column_stack([np.zeros((2, 2)), fine.matrix[:, :2].sum(axis=1) / 2 - 0.5])
    points = cv2.warpAffine(photo.astype(np.float32), centred, (960, 800), borderValue=FILL)
    truth = points.reshape(100, 8, 120, 8, 3).mean(axis=(1, 3))
    centred = matrix + np.column_stack([np.zeros((2, 2)), matrix[:, :2].sum(axis=1) / 2 - 0.5])
    plain = cv2.warpAffine(photo, centred, (120, 100), borderValue=FILL)
    assert rms(warp_image(photo, Warp(matrix, (100, 120))), truth) < 0.85 * rms(plain, truth)


@pytest.mark.parametrize("size_hw", [(23, 31), (45, 60), (61, 90), (90, 120), (100, 130), (150, 210), (40, 240)])
def test_shrinking_is_near_to_pillows_antialiased_resize(size_hw: tuple[int, int], photo: NDArray[np.uint8]) -> None:
    warp, _ = place_whole((180, 240), size_hw, "stretch")
    assert warp is not None
    expected = np.asarray(Image.fromarray(photo).resize(size_hw[::-1], Image.Resampling.BILINEAR))
    plain = cv2.resize(photo, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    error = rms(warp_image(photo, warp), expected)
    assert error < 4
    assert error < 0.75 * rms(plain, expected)


def test_enlarging_is_pillows_bilinear_resize(photo: NDArray[np.uint8]) -> None:
    warp, _ = place_whole((180, 240), (301, 500), "stretch")
    assert warp is not None
    expected = np.asarray(Image.fromarray(photo).resize((500, 301), Image.Resampling.BILINEAR))
    assert np.abs(warp_image(photo, warp).astype(int) - expected).max() <= 3


def test_the_finest_pattern_becomes_grey_and_no_moire(rotation: Callable[..., NDArray[np.float64]]) -> None:
    board = np.zeros((400, 400, 3), dtype=np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 255
    for scale in (0.15, 0.24, 0.31, 0.45, 0.5):
        out = warp_image(board, Warp(rotation(scale, 20, (400, 400), (30, 30)), (30, 30)))
        assert np.abs(out.astype(int) - 127).max() <= 2


@pytest.mark.parametrize("image_hw", [(20, 51), (201, 77), (64, 48)])
@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_a_resized_picture_keeps_its_edge_and_the_rest_is_fill(image_hw: tuple[int, int], fit: Any) -> None:
    white = np.full((*image_hw, 3), 255, dtype=np.uint8)
    warp, placement = place_whole(image_hw, (80, 80), fit)
    assert warp is not None
    expected = np.empty((80, 80, 3), dtype=np.uint8)
    expected[:] = (9, 8, 7)
    top, left = placement.top, placement.left
    expected[top : top + placement.content_hw[0], left : left + placement.content_hw[1]] = 255
    np.testing.assert_array_equal(warp_image(white, warp, (9, 8, 7)), expected)
    mask = warp_mask(np.zeros(image_hw, np.uint8), warp)
    np.testing.assert_array_equal(mask == 0, expected[:, :, 0] == 255)


def test_around_a_turned_picture_lies_fill_and_ignore(rotation: Callable[..., NDArray[np.float64]]) -> None:
    white = np.full((40, 60, 3), 255, dtype=np.uint8)
    for scale in (0.21, 0.4, 0.7, 1.0, 1.7):
        warp = Warp(rotation(scale, 30, (40, 60), (90, 90)), (90, 90))
        image, mask = warp_image(white, warp), warp_mask(np.zeros((40, 60), np.uint8), warp)
        reach = np.ones((5, 5), np.uint8)
        assert (image[cv2.dilate(mask, reach) == 0] == 255).all()
        assert (image[cv2.erode(mask, reach) == IGNORE] == FILL).all()


def test_a_window_beside_the_picture_is_all_fill_and_ignore(rotation: Callable[..., NDArray[np.float64]]) -> None:
    for degrees in (0, 30):
        matrix = rotation(0.7, degrees, (40, 60), (20, 30)) + [[0, 0, 300], [0, 0, 0]]
        image = warp_image(np.zeros((40, 60, 3), np.uint8), Warp(matrix, (20, 30)))
        assert (image == FILL).all()
        assert image.shape == (20, 30, 3)
        assert (warp_mask(np.zeros((40, 60), np.uint8), Warp(matrix, (20, 30))) == IGNORE).all()


def test_a_window_in_the_empty_corner_beside_a_turned_picture_is_all_fill_and_ignore(
    rotation: Callable[..., NDArray[np.float64]],
) -> None:
    mask = np.zeros((100, 100), np.uint8)
    for x in (0, 125):
        for y in (0, 125):
            # Turned by 45 degrees the picture fills the middle of 141 x 141 and none of its corners.
            warp = Warp(rotation(1.0, 45, (100, 100), (141, 141)) - [[0, 0, x], [0, 0, y]], (16, 16))
            assert (warp_mask(mask, warp) == IGNORE).all()
            assert (warp_image(np.zeros((100, 100, 3), np.uint8), warp) == FILL).all()


def test_only_the_visible_part_counts(photo: NDArray[np.uint8], rotation: Callable[..., NDArray[np.float64]]) -> None:
    # Cutting the window out of a larger warp gives the same pixels as warping the window alone.
    for scale in (0.3, 0.6, 1.4):
        matrix = rotation(scale, 13, (180, 240), (200, 200))
        large = warp_image(photo, Warp(matrix, (200, 200)))
        window = warp_image(photo, Warp(matrix - [[0, 0, 90], [0, 0, 85]], (25, 20)))
        difference = np.abs(window.astype(int) - large[85:110, 90:110])
        # Interpolation weights are rounded.
        assert difference.max() <= 1


def test_one_pixel_pictures_and_one_pixel_windows_work() -> None:
    dot = np.full((1, 1, 3), 200, dtype=np.uint8)
    for fit in ("pad", "stretch"):
        warp, _ = place_whole((1, 1), (3, 3), fit)  # type: ignore[arg-type]
        assert warp is not None
        assert (warp_image(dot, warp) == 200).all()
    warp, _ = place_whole((333, 999), (1, 1), "stretch")
    assert warp is not None
    assert (warp_image(np.full((333, 999, 3), 7, np.uint8), warp) == 7).all()


def test_read_only_and_strided_pictures_are_taken_and_left_as_they_are(photo: NDArray[np.uint8]) -> None:
    before = photo.copy()
    photo.flags.writeable = False
    for index in range(10):
        warp = draw_geometry(sample_rng(0, 3, index), (90, 120), EVERYTHING)
        part = photo[::2, ::2]
        np.testing.assert_array_equal(warp_image(part, warp), warp_image(part.copy(), warp))
        np.testing.assert_array_equal(warp_mask(part[:, :, 0], warp), warp_mask(part[:, :, 0].copy(), warp))
    np.testing.assert_array_equal(photo, before)


def test_wrong_shapes_are_named() -> None:
    warp = Warp(np.eye(3)[:2], (4, 4))
    with pytest.raises(ValueError, match=r"\(4, 4\) uint8"):
        warp_image(np.zeros((4, 4), np.uint8), warp)
    with pytest.raises(ValueError, match="int64"):
        warp_mask(np.zeros((4, 4), np.int64), warp)  # type: ignore[arg-type]


def _boxes(*xyxy: tuple[float, float, float, float]) -> Boxes:
    count = len(xyxy)
    number = np.arange(count)
    return Boxes(np.array(xyxy, dtype=np.float32).reshape(count, 4), number, number % 2 == 1, number % 4 == 1)


def test_boxes_move_shrink_and_mirror_by_hand() -> None:
    warp = Warp(np.array([[-2.0, 0, 100], [0, 0.5, 3]]), (60, 100))
    out = warp_boxes(_boxes((10, 20, 30, 60)), warp, min_area=0)
    np.testing.assert_allclose(out.xyxy, [[40, 13, 80, 33]])
    assert out.xyxy.dtype == np.float32


def test_boxes_are_clipped_and_dropped_under_the_least_area() -> None:
    warp = Warp(np.eye(3)[:2], (10, 10))
    boxes = _boxes((-5, 2, 5, 4), (9, 9, 14, 14), (20, 20, 30, 30), (3, 3, 3, 8), (0, 0, 5, 5))
    out = warp_boxes(boxes, warp, min_area=10)
    np.testing.assert_array_equal(out.xyxy, [[0, 2, 5, 4], [0, 0, 5, 5]])
    np.testing.assert_array_equal(out.classes, [0, 4])
    np.testing.assert_array_equal(out.difficult, [False, False])
    np.testing.assert_array_equal(warp_boxes(boxes, warp, min_area=0).crowd, [False, True, False])
    # Outside or without area: gone whatever the least area.
    np.testing.assert_array_equal(warp_boxes(boxes, warp, min_area=0).classes, [0, 1, 4])


def test_a_picture_without_boxes_has_none_after_the_warp() -> None:
    out = warp_boxes(_boxes(), Warp(np.eye(3)[:2], (10, 10)), min_area=25)
    assert out.xyxy.shape == (0, 4)


def test_boxes_enclose_what_the_warped_mask_of_the_box_shows() -> None:
    rng = np.random.default_rng(4)
    tight = 0
    for index in range(60):
        x1, y1, x2, y2 = (int(v) for v in (*rng.integers(0, 60, 2), *rng.integers(75, 150, 2)))
        mask = np.zeros((150, 150), dtype=np.uint8)
        mask[y1:y2, x1:x2] = 1
        warp = draw_geometry(sample_rng(0, 4, index), (150, 150), EVERYTHING)
        out = warp_boxes(_boxes((x1, y1, x2, y2)), warp, min_area=0)
        rows, columns = np.nonzero(warp_mask(mask, warp) == 1)
        if len(rows) == 0:
            continue
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        left, top, right, bottom = out.xyxy[0]
        # A pixel is labelled by its centre: half a pixel of it may stick out.
        assert (np.array([left, top, -right, -bottom]) <= seen * [1, 1, -1, -1] + 0.51).all()
        if left > 0 and top > 0 and right < 90 and bottom < 70:
            # A sharp corner may pass between pixel centres for a pixel or two.
            assert np.abs(out.xyxy[0] - seen).max() <= 2.5
            tight += 1
    assert tight >= 10
