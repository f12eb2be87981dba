from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from pixbox.augment import (
    ColorPolicy,
    GeometryPolicy,
    center_crop,
    draw_geometry,
    place_whole,
    sample_rng,
    warp_image,
    warp_mask,
)
from pixbox.config import AugmentConfig
from pixbox.sample import Placement

MIDDLE = [0.5] * 7


def test_every_setting_of_the_configuration_has_its_place_and_the_same_default() -> None:
    fields = [*dataclasses.fields(GeometryPolicy), *dataclasses.fields(ColorPolicy)]
    here = {field.name: field.default for field in fields if field.name not in ("size_hw", "fit", "base_size")}
    assert here == AugmentConfig().model_dump()


def test_letterbox_positions_by_hand() -> None:
    # 480 -> 512 is 16/15, so 360 -> 384, and (512 - 384) / 2 = 64 rows above and below.
    warp, placement = place_whole((360, 480), (512, 512), "pad")
    assert placement == Placement((360, 480), (512, 512), (384, 512), 64, 0)
    assert warp is not None
    assert warp.size_hw == (512, 512)
    np.testing.assert_allclose(warp.matrix, [[16 / 15, 0, 0], [0, 16 / 15, 64]], atol=1e-12)


def test_letterbox_puts_an_odd_rest_right_and_below() -> None:
    warp, placement = place_whole((10, 5), (10, 10), "pad")
    assert placement == Placement((10, 5), (10, 10), (10, 5), 0, 2)
    assert warp is not None
    np.testing.assert_array_equal(warp.matrix, [[1, 0, 2], [0, 1, 0]])


def test_stretch_reaches_every_corner() -> None:
    warp, placement = place_whole((100, 50), (25, 200), "stretch")
    assert placement == Placement((100, 50), (25, 200), (25, 200))
    assert warp is not None
    np.testing.assert_allclose(warp.matrix, [[4, 0, 0], [0, 0.25, 0]], atol=1e-12)


def test_crop_evaluates_the_whole_picture_at_its_own_size() -> None:
    assert place_whole((37, 91), (16, 16), "crop") == (None, Placement((37, 91), (37, 91), (37, 91)))


def test_base_size_is_the_long_side() -> None:
    warp, placement = place_whole((300, 400), (16, 16), "crop", 200)
    assert placement == Placement((300, 400), (150, 200), (150, 200))
    assert warp is not None
    np.testing.assert_allclose(warp.matrix, [[0.5, 0, 0], [0, 0.5, 0]], atol=1e-12)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_picture_that_already_fits_stays_as_it_is(fit: Any) -> None:
    assert place_whole((20, 30), (20, 30), fit) == (None, Placement((20, 30), (20, 30), (20, 30)))


@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize("image_hw", [(7, 13), (301, 77), (64, 48), (1, 1000)])
def test_without_augmentation_training_and_evaluation_see_the_same(fit: Any, image_hw: tuple[int, int]) -> None:
    policy = GeometryPolicy((48, 64), fit)
    whole, _ = place_whole(image_hw, (48, 64), fit)
    assert whole is not None
    for index in range(5):
        drawn = draw_geometry(sample_rng(0, 0, index), image_hw, policy)
        assert drawn.size_hw == whole.size_hw
        np.testing.assert_array_equal(drawn.matrix, whole.matrix)


def test_unaugmented_crops_lie_at_every_whole_position_equally_often() -> None:
    policy = GeometryPolicy((4, 5))
    places: Counter[tuple[float, float]] = Counter()
    for index in range(3000):
        matrix = draw_geometry(sample_rng(0, 0, index), (6, 9), policy).matrix
        np.testing.assert_array_equal(matrix[:, :2], np.eye(2))
        places[matrix[0, 2], matrix[1, 2]] += 1
    assert set(places) == {(-x, -y) for x in range(5) for y in range(3)}
    assert stats.chisquare(list(places.values())).pvalue > 1e-3


def test_a_picture_smaller_than_the_crop_lies_whole_at_every_position_of_it() -> None:
    policy = GeometryPolicy((6, 9))
    places = {tuple(draw_geometry(sample_rng(0, 0, i), (4, 5), policy).matrix[:, 2]) for i in range(500)}
    assert places == {(x, y) for x in range(5) for y in range(3)}


def test_a_zoomed_out_letterbox_stays_centred_and_a_zoomed_in_one_is_searched() -> None:
    policy = GeometryPolicy((100, 100), "pad", scale=(0.5, 0.5))
    for index in range(5):
        matrix = draw_geometry(sample_rng(0, 0, index), (100, 100), policy).matrix
        np.testing.assert_allclose(matrix, [[0.5, 0, 25], [0, 0.5, 25]])
    policy = GeometryPolicy((100, 100), "pad", scale=(1.5, 1.5))
    # 100 x 50 becomes 150 x 75: along x any of 51 places, along y centred (12 above, 13 below).
    offsets = np.array([draw_geometry(sample_rng(0, 0, index), (50, 100), policy).matrix[:, 2] for index in range(600)])
    assert set(offsets[:, 0]) == {-x for x in range(51)}
    assert set(offsets[:, 1]) == {12}


def test_zoom_is_log_uniform() -> None:
    policy = GeometryPolicy((64, 64), scale=(0.5, 2.0), rotate=10, flip=0.5)
    linear = [draw_geometry(sample_rng(1, 0, i), (9000, 12000), policy).matrix[:, :2] for i in range(2000)]
    logs = np.log([np.sqrt(abs(np.linalg.det(part))) for part in linear])
    assert stats.kstest(logs, stats.uniform(np.log(0.5), np.log(4)).cdf).pvalue > 1e-3


def test_angles_shears_and_mirrors_follow_their_ranges() -> None:
    policy = GeometryPolicy((64, 64), rotate=20)
    linear = np.array([draw_geometry(sample_rng(2, 0, i), (80, 80), policy).matrix[:, :2] for i in range(2000)])
    angles = np.rad2deg(np.arctan2(linear[:, 0, 1], linear[:, 0, 0]))
    assert stats.kstest(angles, stats.uniform(-20, 40).cdf).pvalue > 1e-3
    policy = GeometryPolicy((64, 64), shear=15, flip=0.25, flip_vertical=0.75)
    linear = np.array([draw_geometry(sample_rng(2, 0, i), (80, 80), policy).matrix[:, :2] for i in range(2000)])
    shears = np.rad2deg(np.arctan(linear[:, 0, 1]))
    assert stats.kstest(shears, stats.uniform(-15, 30).cdf).pvalue > 1e-3
    assert np.mean(linear[:, 0, 0] < 0) == pytest.approx(0.25, abs=0.04)
    assert np.mean(linear[:, 1, 1] < 0) == pytest.approx(0.75, abs=0.04)


def test_changing_one_setting_leaves_the_other_draws() -> None:
    plain = draw_geometry(sample_rng(0, 0, 3), (80, 100), GeometryPolicy((64, 64), scale=(0.5, 2.0)))
    mirrored = draw_geometry(sample_rng(0, 0, 3), (80, 100), GeometryPolicy((64, 64), scale=(0.5, 2.0), flip=1.0))
    np.testing.assert_array_equal(mirrored.matrix[0, :2], -plain.matrix[0, :2])
    np.testing.assert_array_equal(mirrored.matrix[1], plain.matrix[1])


def test_a_quarter_turn_is_numpys_rot90_to_the_pixel(given_draws: Any, photo: NDArray[np.uint8]) -> None:
    square = np.ascontiguousarray(photo[:150, :150])
    for draw, quarter_turns in ((1.0, 1), (0.0, -1)):
        draws = [0.5, draw, *MIDDLE[2:]]
        warp = draw_geometry(given_draws(draws), (150, 150), GeometryPolicy((150, 150), rotate=90))
        np.testing.assert_array_equal(warp_image(square, warp), np.rot90(square, quarter_turns))
        np.testing.assert_array_equal(warp_mask(square[:, :, 0].copy(), warp), np.rot90(square[:, :, 0], quarter_turns))


def test_mirrors_are_numpys_to_the_pixel(photo: NDArray[np.uint8]) -> None:
    rng = sample_rng(0, 0, 0)
    warp = draw_geometry(rng, (180, 240), GeometryPolicy((180, 240), flip=1.0))
    np.testing.assert_array_equal(warp_image(photo, warp), np.fliplr(photo))
    warp = draw_geometry(rng, (180, 240), GeometryPolicy((180, 240), flip_vertical=1.0))
    np.testing.assert_array_equal(warp_image(photo, warp), np.flipud(photo))


def test_shear_leans_rows_about_the_centre(given_draws: Any) -> None:
    draws = [0.5, 0.5, 1.0, *MIDDLE[3:]]
    warp = draw_geometry(given_draws(draws), (10, 20), GeometryPolicy((10, 20), shear=45))
    # x' = x + (y - 5), y' = y.
    np.testing.assert_allclose(warp.matrix, [[1, 1, -5], [0, 1, 0]], atol=1e-12)


def test_scale_shear_turn_mirror_and_window_are_applied_in_this_order(given_draws: Any) -> None:
    policy = GeometryPolicy((30, 40), scale=(2.0, 2.0), rotate=40, shear=20, flip=1.0)
    warp = draw_geometry(given_draws([0.5, 0.75, 0.75, 0.5, 0.5, 0.5, 0.25]), (20, 30), policy)
    turn, lean = np.deg2rad(20), np.tan(np.deg2rad(10))

    def move(*offset: float) -> NDArray[np.float64]:
        return np.array([[1, 0, offset[0]], [0, 1, offset[1]], [0, 0, 1]])

    cos, sin = np.cos(turn), np.sin(turn)
    steps = [
        np.diag([2.0, 2.0, 1.0]),  # 60 x 40
        move(-30, -20),
        np.array([[1, lean, 0], [0, 1, 0], [0, 0, 1]]),
        np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]),
        np.diag([-1.0, 1.0, 1.0]),
        move(30, 20),
        move(-5, -5),  # a quarter of the 21 places along x, the middle of the 11 along y
    ]
    expected = np.eye(3)
    for step in steps:
        expected = step @ expected
    np.testing.assert_allclose(warp.matrix, expected[:2], atol=1e-9)


@pytest.mark.parametrize("image_hw", [(180, 240), (240, 180), (101, 203), (97, 97)])
def test_center_crop_is_the_protocol_of_torchvision(image_hw: tuple[int, int], photo: NDArray[np.uint8]) -> None:
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms.v2")
    picture = np.resize(photo, (*image_hw, 3))
    published = transforms.Compose([transforms.Resize(75, antialias=True), transforms.CenterCrop((60, 50))])
    # A ramp tells any shift: one pixel is 2.5 grey levels or more.
    ramp = np.zeros_like(picture)
    ramp[:, :, 0] = np.linspace(0, 250, image_hw[1])
    ramp[:, :, 1] = np.linspace(0, 250, image_hw[0])[:, None]
    expected = published(torch.from_numpy(ramp).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    warped = warp_image(ramp, center_crop(image_hw, 75, (60, 50)))
    assert np.abs(warped.astype(int) - expected).max() <= 1
